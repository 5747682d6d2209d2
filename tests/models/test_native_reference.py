"""The autoencoder computes what the native complex reference of the benchmarks computes, and has its gradients."""

import pytest
import torch

from benchmarks.native_reference import NativeAutoencoder, as_ours, load_ours
from pipeline.errors import ConfigError
from pipeline.losses.spectral import StftMse
from pipeline.models.build import build_autoencoder, describe

NETWORK = {
    "complex_valued": True,
    "ratios": [[4, 2], [1, 2], [3, 1]],
    "n_filters": 4,
    "n_residual_layers": 2,
    "kernel_size": 5,
    "last_kernel_size": 3,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "compress": 2,
    "true_skip": False,
    "norm": "weight_norm",
    "activation": "CReLU",
    "pad_mode": "reflect",
    "latent_fbins": 2,
    "dimension": 6,
}
REAL = {"complex_valued": False, "activation": "ELU"}
VARIANTS = {
    "as the full size": {},
    "zeros": {"pad_mode": "zeros"},
    "no norm": {"norm": "none", "activation": "ELU"},
    "true skip": {"true_skip": True, "activation": "Tanh"},
    "no units": {"n_residual_layers": 0, "pad_mode": "zeros", "norm": "none"},
    "real": REAL,
    "real, zeros, no norm": REAL | {"pad_mode": "zeros", "norm": "none"},
}
WEIGHTS = {"stft_mse": 1.5, "kl": 0.01}


def description(vae: bool, **changes):
    network = NETWORK | changes
    model = {
        "autoencoder": {
            "pre_transform": {
                "type": "power_norm",
                "config": {"alpha": 0.65, "beta": 0.35},
                "apply_target": True,
            }
        },
        "encoder": {"type": "SEANetEncoder", "config": network},
        "decoder": {"type": "SEANetDecoder", "config": network | {"dimension": 3 if vae else 6}},
        "bottleneck": {"type": "VAEBottleneck" if vae else "IdentityBottleneck", "config": {}},
    }
    return describe(model, {"n_fft": 64, "hop_length": 16, "win_length": 48}, 8000, 2)


def draw(shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("vae", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_ours_is_the_reference(variant, vae):
    torch.manual_seed(0)
    told = description(vae, **VARIANTS[variant])
    ours, native = build_autoencoder(told).double(), NativeAutoencoder(told, torch.float64)
    with torch.no_grad():
        for weight in ours.parameters():
            weight += 0.1 * torch.randn_like(
                weight
            )  # biases and lengths of filters that are not their initial ones
    load_ours(native, ours)
    waveform = torch.randn(2, 2, 16 * 22, dtype=torch.float64)  # 23 frames, filled up to 24

    found = ours(waveform, noise=draw)
    loss = WEIGHTS["stft_mse"] * StftMse()(found.estimate_spectrogram, found.reference_spectrogram)
    if vae:
        loss = loss + WEIGHTS["kl"] * found.loss_info["kl"]
    wanted = native(waveform, draw)
    assert native.encoder.style.dtype.is_complex == told["model"]["encoder"]["config"]["complex_valued"]
    for value, stacked in (
        (wanted.estimate, found.estimate_spectrogram),
        (wanted.reference, found.reference_spectrogram),
    ):
        pairs = torch.cat((value.real, value.imag), 1) if value.is_complex() else value
        torch.testing.assert_close(stacked, pairs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss, wanted.loss(WEIGHTS), rtol=1e-10, atol=0)

    loss.backward()
    wanted.loss(WEIGHTS).backward()
    gradients = {name: weight.grad for name, weight in native.named_parameters()}
    weights = dict(ours.named_parameters())
    assert weights.keys() == gradients.keys()
    for name, weight in weights.items():
        error = (weight.grad - as_ours(gradients[name], weight)).norm() / weight.grad.norm()
        assert error <= 1e-9, f"{name}: {error}"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"causal": True}, "causal=True"),
        ({"norm": "group_norm"}, "norm='group_norm'"),
        ({"activation": "modReLU"}, "activation='modReLU'"),
        ({"sequence_model": "lstm"}, "sequence_model='lstm'"),
    ],
)
def test_what_the_reference_cannot_do_is_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        NativeAutoencoder(description(False, **changes))


def test_only_seanet_with_its_target_is_known():
    told = description(False)
    told["model"]["autoencoder"]["pre_transform"]["apply_target"] = False
    with pytest.raises(ConfigError, match="power_norm target"):
        NativeAutoencoder(told)

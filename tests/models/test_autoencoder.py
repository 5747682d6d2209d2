import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.dsp.complex_channels import stack, unstack
from pipeline.errors import ShapeError

KINDS = [False, True]


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("num_samples", [1, 15, 64, 65, 1000, 1001])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_output_has_the_length_and_channels_of_the_input(build_small, complex_valued, num_samples, channels):
    model = build_small(complex_valued, channels=channels)
    waveform = torch.randn(2, channels, num_samples)
    output = model(waveform)
    num_frames = model.stft.num_frames(num_samples)
    assert output.reference_waveform is waveform
    assert output.waveform.shape == waveform.shape
    assert output.waveform is output.waveform  # computed once
    assert output.estimate_spectrogram.shape == (2, 2 * channels, 33, num_frames)
    assert output.reference_spectrogram.shape == output.estimate_spectrogram.shape
    assert output.latents.shape == (2, model.latent_channels, -(-num_frames // model.time_stride))
    assert output.loss_info.keys() == {"kl"}


@pytest.mark.parametrize("complex_valued", KINDS)
def test_encode_and_decode_are_the_two_halves(build_small, complex_valued):
    model = build_small(complex_valued).eval()
    waveform = torch.randn(1, 2, 500)
    output = model(waveform)
    latents = model.encode(waveform)
    assert torch.equal(latents, output.latents)
    torch.testing.assert_close(model.decode(latents, 500), output.waveform)
    with pytest.raises(ShapeError, match="give 36 frames, but 561 samples need 37"):
        model.decode(latents, 561)


def test_spectrograms_are_in_the_domain_of_the_losses(build_small):
    compressed = build_small(True, apply_target=True)
    linear = build_small(True, apply_target=False)
    linear.load_state_dict(compressed.state_dict())
    waveform = 0.1 * torch.randn(1, 2, 500)
    noise = torch.zeros
    inside, outside = compressed(waveform, noise), linear(waveform, noise)
    torch.testing.assert_close(outside.reference_spectrogram, stack(linear.stft(waveform)))
    for name in ("reference_spectrogram", "estimate_spectrogram"):
        expected = compressed.compression.inverse(getattr(inside, name))
        torch.testing.assert_close(getattr(outside, name), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(inside.waveform, outside.waveform)
    resynthesised = linear.stft.inverse(unstack(outside.estimate_spectrogram), 500)
    torch.testing.assert_close(outside.waveform, resynthesised)


def test_the_noise_callable_decides_the_sample(build_small):
    model = build_small(True)
    waveform = torch.randn(2, 2, 500)

    def noise(shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(3))

    assert torch.equal(model(waveform, noise).latents, model(waveform, noise).latents)
    assert not torch.equal(model(waveform).latents, model(waveform).latents)


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("norm", ["weight_norm", "group_norm"])
@pytest.mark.parametrize("apply_target", [False, True])
def test_gradients_are_finite_at_silence(build_small, complex_valued, norm, apply_target):
    activation = "modReLU" if complex_valued else "ELU"
    model = build_small(complex_valued, norm=norm, activation=activation, apply_target=apply_target)
    output = model(torch.zeros(1, 2, 500))
    loss = output.estimate_spectrogram.square().mean() + output.waveform.abs().mean() + output.loss_info["kl"]
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("complex_valued", KINDS)
def test_float64(build_small, complex_valued):
    model = build_small(complex_valued).double()
    output = model(torch.randn(1, 2, 500, dtype=torch.float64))
    assert output.waveform.dtype == output.estimate_spectrogram.dtype == torch.float64
    assert output.latents.dtype == output.loss_info["kl"].dtype == torch.float64


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("norm", ["weight_norm", "group_norm"])
def test_bf16_autocast_leaves_the_signal_path_in_float32(build_small, complex_valued, norm):
    torch.manual_seed(0)
    model = build_small(complex_valued, norm=norm).eval()
    waveform = 0.1 * torch.randn(2, 2, 1000)
    plain = model(waveform)
    dtypes = set()
    model.decoder.levels[-1].register_forward_hook(lambda _m, _i, output: dtypes.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(waveform)
        estimate = mixed.waveform
        (mixed.estimate_spectrogram - mixed.reference_spectrogram).square().mean().backward()
    assert dtypes == {torch.bfloat16}
    assert torch.equal(mixed.reference_spectrogram, plain.reference_spectrogram)
    for tensor in (mixed.estimate_spectrogram, estimate, mixed.latents):
        assert tensor.dtype == torch.float32
    error = (mixed.estimate_spectrogram - plain.estimate_spectrogram).norm()
    assert error < 0.05 * plain.estimate_spectrogram.norm()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("complex_valued", KINDS)
def test_true_bf16_weights(build_small, complex_valued):
    model = build_small(complex_valued).bfloat16()
    output = model(torch.randn(1, 2, 500).bfloat16())
    assert output.waveform.dtype == output.reference_spectrogram.dtype == torch.float32
    output.waveform.square().mean().backward()


def test_figures_for_banner_and_chunks(build_small):
    model = build_small(True)
    assert model.latent_channels == 8
    assert model.latent_hop_samples == 16 * 4
    expected = model.encoder.receptive_field_frames + model.decoder.receptive_field_frames
    assert model.receptive_field_frames == expected
    assert not model.has_global_statistics
    assert build_small(True, norm="group_norm").has_global_statistics


@pytest.mark.parametrize("complex_valued", KINDS)
def test_the_inner_part_of_a_chunk_equals_the_whole(build_small, complex_valued):
    """Frames farther than the receptive field from both ends do not know where the signal was cut."""
    torch.manual_seed(0)
    model = build_small(complex_valued, vae=False).double().eval()
    margin = -(-model.receptive_field_frames // model.time_stride) * model.time_stride
    stacked = torch.randn(1, 4, 33, 3 * margin + 16, dtype=torch.float64)
    whole = model.decoder(model.encoder(stacked))
    first, last = margin, 3 * margin + 16
    chunk = model.decoder(model.encoder(stacked[..., first:last]))
    torch.testing.assert_close(chunk[..., margin:-margin], whole[..., first + margin : last - margin])


def test_parameters_are_real_and_copy_and_reload(build_small):
    model = build_small(True, activation="modReLU", norm="group_norm").eval()
    assert not any(tensor.is_complex() for tensor in model.state_dict().values())
    twin = copy.deepcopy(model)
    other = build_small(True, activation="modReLU", norm="group_norm").eval()
    other.load_state_dict(model.state_dict(), strict=True)
    waveform = torch.randn(1, 2, 300)
    expected = model.encode(waveform)
    assert torch.equal(twin.encode(waveform), expected)
    assert torch.equal(other.encode(waveform), expected)


class _Recorder(TorchDispatchMode):
    """Names every operation of forward and backward."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# Raise, or take a slow path, under torch.use_deterministic_algorithms(True) on CUDA.
NONDETERMINISTIC = (
    "reflection_pad",
    "replication_pad",
    "upsample",
    "index_add",
    "index_put",
    "index_select",
    "scatter",
    "gather",
    "as_strided_scatter",
    "cumsum",
    "bincount",
    "histc",
    "median",
    "put_",
    "max_pool",
    "avg_pool",
    "grid_sampl",
    "repeat_interleave",
)


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "weight_norm"},
        {"norm": "group_norm"},
        {"norm": "layer_norm", "causal": True},
        {"norm": "batch_norm", "residual_groups": 2, "double_final_conv": True},
        {"norm": "spectral_norm", "sequence_model": "lstm"},
        {"norm": "none", "sequence_model": "transformer", "sequence_heads": 2, "causal": True},
    ],
    ids=lambda changes: changes["norm"],
)
def test_only_operations_that_are_deterministic_on_every_device(build_small, complex_valued, changes):
    model = build_small(complex_valued, **{"activation": "modReLU" if complex_valued else "ELU"} | changes)
    waveform = torch.randn(1, 2, 500, requires_grad=True)
    with _Recorder() as recorder:
        output = model(waveform)
        analysed = model.stft(output.waveform).abs().sum()
        (analysed + output.estimate_spectrogram.sum() + output.loss_info["kl"]).backward()
    assert {"convolution", "convolution_backward", "unfold", "unfold_backward"} <= recorder.names
    found = {name for name in recorder.names if any(part in name for part in NONDETERMINISTIC)}
    assert not found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("norm", ["weight_norm", "group_norm", "layer_norm", "batch_norm"])
@pytest.mark.parametrize("sequence_model", ["none", "lstm", "transformer"])
def test_strict_determinism_on_a_gpu(build_small, complex_valued, norm, sequence_model, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        changes = {"sequence_model": sequence_model, "sequence_heads": 2, "residual_groups": 2}
        model = build_small(complex_valued, norm=norm, **changes).cuda()
        waveform = torch.randn(4, 2, 2000, device="cuda")
        gradients = []
        for _ in range(2):
            model.zero_grad()
            output = model(waveform, lambda shape: torch.ones(shape))
            analysed = model.stft(output.waveform).abs().mean()
            (analysed + output.estimate_spectrogram.square().mean() + output.loss_info["kl"]).backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)

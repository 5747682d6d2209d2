import pytest
import torch

from pipeline.config.registry import build
from pipeline.dsp.compression import PowerNorm
from pipeline.dsp.stft import Stft
from pipeline.errors import ConfigError
from pipeline.models import BOTTLENECKS, DECODERS, ENCODERS
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.models.geometry import check_fit
from pipeline.models.patch_transformer import PatchTransformerDecoder, PatchTransformerEncoder
from pipeline.models.plan import NETWORK_CHECKS

KINDS = [False, True]
ATTENTION = ["full", "axial"]
PATCHES = {
    "patch_size": [8, 4],
    "width": 8,
    "depth": 2,
    "num_heads": 2,
    "attention": "axial",
    "mlp_ratio": 2,
    "activation": "GELU",
    "causal": False,
}


def networks(complex_valued, num_bins=33, channels=1, **changes):
    torch.manual_seed(0)
    config = PATCHES | {"complex_valued": complex_valued} | changes
    encoder = PatchTransformerEncoder(**config, dimension=6, in_channels=channels, num_bins=num_bins)
    return encoder, PatchTransformerDecoder(**config, dimension=6, out_channels=channels, num_bins=num_bins)


def spectrogram(seed=0, channels=1, num_bins=33, dtype=torch.float32):
    shape = (2, 2 * channels, num_bins, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("num_bins", [32, 33, 39])
@pytest.mark.parametrize("channels", [1, 2])
def test_shapes_and_gradients(complex_valued, attention, num_bins, channels):
    encoder, decoder = networks(complex_valued, num_bins, channels, attention=attention)
    stacked = spectrogram(channels=channels, num_bins=num_bins)
    latents = encoder(stacked)
    assert latents.shape == (2, encoder.latent_channels, 4) and encoder.time_stride == 4
    output = decoder(latents)
    assert output.shape == stacked.shape
    output.square().mean().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("complex_valued", KINDS)
def test_patches_are_unpacked_where_they_were_cut(complex_valued):
    """With a projection that copies, every value comes back to its bin, frame, channel and part."""
    _, decoder = networks(complex_valued, num_bins=32, channels=2)
    values = torch.randn(2, 4, 32, 16)
    cut = values.unflatten(2, (4, 8)).unflatten(4, (4, 4)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    decoder.tokens, decoder.projection = torch.nn.Identity(), torch.nn.Flatten(1, 2)
    decoder.patches = torch.nn.Identity()
    assert torch.equal(decoder(cut), values)


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_future_frame_changes_no_past_output(complex_valued, attention):
    encoder, decoder = (
        network.double() for network in networks(complex_valued, attention=attention, causal=True)
    )
    stacked, other = (spectrogram(seed, dtype=torch.float64) for seed in (0, 1))
    changed = torch.cat((stacked[..., :8], other[..., 8:]), -1)
    latents, latents_changed = encoder(stacked), encoder(changed)
    torch.testing.assert_close(latents_changed[..., :2], latents[..., :2], rtol=0, atol=1e-12)
    assert not torch.allclose(latents_changed[..., 2:], latents[..., 2:])
    output, output_changed = decoder(latents), decoder(latents_changed)
    torch.testing.assert_close(output_changed[..., :8], output[..., :8], rtol=0, atol=1e-12)
    seeing = networks(complex_valued, attention=attention)[0].double()
    assert not torch.allclose(seeing(changed)[..., :2], seeing(stacked)[..., :2])


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_patch_reaches_every_latent(attention):
    encoder, _ = networks(True, attention=attention)
    stacked = spectrogram().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(stacked)[..., 0].square().sum(), stacked)
    assert (gradient.abs().sum((0, 1)) > 0).all()


SEANET = {
    "ratios": [[4, 2], [2, 2]],
    "n_filters": 4,
    "n_residual_layers": 0,
    "kernel_size": 3,
    "last_kernel_size": 3,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "compress": 2,
    "true_skip": False,
    "norm": "layer_norm",
    "activation": "ELU",
    "pad_mode": "zeros",
    "latent_fbins": 4,
}
CONFIGS = {"PatchTransformer": PATCHES, "SEANet": SEANET}


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("bottleneck_type", BOTTLENECKS)
@pytest.mark.parametrize("decoder_type", DECODERS)
@pytest.mark.parametrize("encoder_type", ENCODERS)
def test_any_encoder_bottleneck_and_decoder_combine(
    encoder_type, decoder_type, bottleneck_type, complex_valued
):
    halves = bottleneck_type == "VAEBottleneck"
    blocks = {
        name: {
            "type": name,
            "config": CONFIGS[name.removesuffix("Encoder").removesuffix("Decoder")]
            | {"complex_valued": complex_valued, "dimension": dimension},
        }
        for name, dimension in ((encoder_type, 8), (decoder_type, 4 if halves else 8))
    }
    check_fit(blocks[encoder_type]["config"], blocks[decoder_type]["config"], bottleneck_type)
    for name, block in blocks.items():
        defaults = {"sequence_model": "none", "sequence_heads": 1, "residual_groups": 1}
        NETWORK_CHECKS[name](defaults | block["config"], 33)
    model = SpectrogramAutoencoder(
        Stft(64, 16, 64),
        PowerNorm(alpha=0.65, beta=1.0),
        build(blocks[encoder_type], ENCODERS, "model.encoder", in_channels=2, num_bins=33),
        build(blocks[decoder_type], DECODERS, "model.decoder", out_channels=2, num_bins=33),
        build(
            {"type": bottleneck_type},
            BOTTLENECKS,
            "model.bottleneck",
            dimension=8,
            complex_valued=complex_valued,
        ),
        apply_target=True,
    )
    waveform = torch.randn(2, 2, 500)
    output = model(waveform)
    assert output.waveform.shape == waveform.shape
    output.waveform.square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_every_network_is_checked_before_it_is_built():
    assert NETWORK_CHECKS.keys() == ENCODERS.keys() | DECODERS.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [8]}, r"^patch_size=\[8\] must be two numbers"),
        ({"patch_size": [64, 2]}, "^patch_size=.* more bins than the STFT, 33"),
        ({"num_heads": 3}, "^num_heads=3 must divide width=8"),
        ({"num_heads": 8}, "^num_heads=8 leaves 1 of width=8 a head; it must be even"),
        ({"activation": "GELu"}, "^activation='GELu' .*did you mean 'GELU'"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ConfigError, match=message):
        networks(False, **changes)


def test_frames_that_do_not_meet_are_refused_with_their_keys():
    encoder = SEANET | {"complex_valued": False, "dimension": 8}
    decoder = PATCHES | {"complex_valued": False, "dimension": 8, "patch_size": [8, 2]}
    with pytest.raises(ConfigError, match=r"decoder.config.patch_size .* 2, .*encoder.config.ratios .* 4"):
        check_fit(encoder, decoder, "IdentityBottleneck")

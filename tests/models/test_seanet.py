import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.layers.convolution import Convolution
from pipeline.models.seanet import SEANetDecoder, SEANetEncoder


def _level_shapes(network: nn.Module, features: torch.Tensor) -> list[tuple[int, ...]]:
    """Shapes after each convolution of the main chain, batch axis left out."""
    shapes: list[tuple[int, ...]] = []
    chain = [network.projection, *(layer for layer in network.levels if isinstance(layer, Convolution))]
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
        for layer in chain
    ]
    network(features)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize(("complex_valued", "parts"), [(False, 1), (True, 2)])
def test_shape_trace_at_full_size(full_size, complex_valued, parts):
    config = full_size | {"complex_valued": complex_valued}
    encoder = SEANetEncoder(**config, dimension=256, in_channels=2, num_bins=1025)
    decoder = SEANetDecoder(**config, dimension=128, out_channels=2, num_bins=1025)
    with torch.no_grad():
        down = _level_shapes(encoder, torch.randn(1, 4, 1025, 128))
        up = _level_shapes(decoder, torch.randn(1, 128 * parts, 16))
    levels = [(8 * parts, 1025, 128), (16 * parts, 256, 64), (32 * parts, 256, 32), (64 * parts, 64, 16)]
    assert down == [*levels, (256 * parts, 16)]
    assert up == [(4096 * parts, 16), *levels[2::-1], (4, 1025, 128)]
    assert encoder.time_stride == decoder.time_stride == 8
    assert encoder.latent_channels == 256 * parts


@pytest.mark.parametrize(
    ("complex_valued", "dimensions", "encoder_size", "decoder_size"),
    [(False, (256, 128), 7.42e6, 3.76e6), (True, (128, 64), 7.51e6, 3.85e6)],
)
def test_parameter_count_at_full_size(full_size, complex_valued, dimensions, encoder_size, decoder_size):
    config = full_size | {"complex_valued": complex_valued}
    encoder = SEANetEncoder(**config, dimension=dimensions[0], in_channels=2, num_bins=1025)
    decoder = SEANetDecoder(**config, dimension=dimensions[1], out_channels=2, num_bins=1025)
    for network, expected in ((encoder, encoder_size), (decoder, decoder_size)):
        size = sum(parameter.numel() for parameter in network.parameters())
        assert size == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("num_bins", [33, 35, 41, 47, 50])
@pytest.mark.parametrize("ratios", [[[4, 2], [2, 2]], [[1, 2], [3, 1]], [[5, 1]], []])
def test_any_number_of_bins_comes_back(small, num_bins, ratios):
    bins = num_bins
    for frequency, _ in reversed(ratios):
        bins //= frequency
    config = small | {"ratios": ratios, "latent_fbins": bins, "complex_valued": True}
    encoder = SEANetEncoder(**config, dimension=3, in_channels=1, num_bins=num_bins)
    decoder = SEANetDecoder(**config, dimension=3, out_channels=1, num_bins=num_bins)
    stacked = torch.randn(2, 2, num_bins, 8)
    latents = encoder(stacked)
    assert latents.shape == (2, 6, 8 // encoder.time_stride)
    assert decoder(latents).shape == stacked.shape


@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
def test_receptive_fields_bound_the_reach_of_gradients(small, pad_mode):
    torch.manual_seed(0)
    config = small | {"pad_mode": pad_mode, "norm": "none", "activation": "Tanh", "complex_valued": False}
    encoder = SEANetEncoder(**config, dimension=2, in_channels=1, num_bins=33)
    decoder = SEANetDecoder(**config, dimension=2, out_channels=1, num_bins=33)

    stacked = torch.randn(1, 2, 33, 96, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(stacked)[..., 12].sum(), stacked)
    reached = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (reached[-1] - reached[0]).item() + 1 == encoder.receptive_field_frames

    latents = torch.randn(1, 2, 24, requires_grad=True)
    output = decoder(latents)
    widths = []
    for frame in range(40, 48):
        (gradient,) = torch.autograd.grad(output[..., frame].sum(), latents, retain_graph=True)
        reached = gradient.abs().sum((0, 1)).nonzero().flatten()
        widths.append((reached[-1] - reached[0]).item() + 1)
    assert max(widths) * decoder.time_stride == decoder.receptive_field_frames


@pytest.mark.parametrize("norm", ["none", "weight_norm", "group_norm"])
@pytest.mark.parametrize(
    ("activation", "complex_valued"), [("ELU", False), ("CReLU", True), ("modReLU", True)]
)
def test_every_parameter_gets_a_gradient(small, norm, activation, complex_valued):
    torch.manual_seed(0)
    config = small | {"norm": norm, "activation": activation, "complex_valued": complex_valued}
    encoder = SEANetEncoder(**config, dimension=4, in_channels=2, num_bins=33)
    decoder = SEANetDecoder(**config, dimension=4, out_channels=2, num_bins=33)
    decoder(encoder(torch.randn(2, 4, 33, 16))).square().mean().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_bias_free_phase_equivariant_network_rotates_with_its_input(small):
    """Bias-free convolutions and modReLU in a row, as the complex network has them."""
    config = small | {"activation": "modReLU", "complex_valued": True}
    encoder = SEANetEncoder(**config, dimension=4, in_channels=2, num_bins=33).double()
    for module in encoder.modules():
        if isinstance(module, Convolution):
            module.bias = None
    real, imag = torch.randn(2, 1, 2, 33, 16, dtype=torch.float64)
    latents = encoder(torch.cat((real, imag), 1))
    rotated = encoder(torch.cat((-imag, real), 1))  # times i
    torch.testing.assert_close(rotated, torch.cat((-latents[:, 4:], latents[:, :4]), 1))


def test_projections_and_output_have_no_group_norm(small):
    config = small | {"norm": "group_norm", "complex_valued": True}
    encoder = SEANetEncoder(**config, dimension=4, in_channels=1, num_bins=33)
    decoder = SEANetDecoder(**config, dimension=4, out_channels=1, num_bins=33)
    assert encoder.projection.norm is None and decoder.levels[-1].norm is None
    assert encoder.levels[0].norm is not None and decoder.projection.norm is not None
    assert encoder.has_global_statistics and decoder.has_global_statistics


@pytest.mark.parametrize("network", [SEANetEncoder, SEANetDecoder])
def test_bins_that_do_not_fit_are_refused_with_both_numbers(full_size, network):
    channels = {"in_channels": 1} if network is SEANetEncoder else {"out_channels": 1}
    with pytest.raises(ConfigError, match="^latent_fbins=64 .* 32 "):
        network(**full_size, dimension=8, complex_valued=False, num_bins=513, **channels)

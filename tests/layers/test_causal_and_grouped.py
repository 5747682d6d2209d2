"""Convolutions that see no later frame, and those of groups of channels."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from pipeline.dsp.complex_channels import stack, unstack
from pipeline.layers.conv import Conv1d, Conv2d, ConvStyle, ConvTranspose2d
from pipeline.layers.convolution import Norm
from pipeline.layers.receptive_field import receptive_field
from pipeline.layers.residual import ResidualUnit

KINDS = [False, True]
NORMS: list[Norm] = ["none", "weight_norm", "spectral_norm", "group_norm", "layer_norm", "batch_norm"]
# Name: layer, whether on (B, C, L), output frames per input frame.
LAYERS = {
    "plain": (lambda style: Conv2d(4, 6, (3, 3), style=style), False, 1),
    "even": (lambda style: Conv2d(4, 6, (3, 4), style=style), False, 1),
    "dilated": (lambda style: Conv2d(4, 6, (3, 3), dilation=(1, 4), style=style), False, 1),
    "strided": (lambda style: Conv2d(4, 6, (4, 4), stride=(2, 2), style=style), False, 1 / 2),
    "stride 3": (lambda style: Conv2d(4, 6, (4, 6), stride=(2, 3), style=style), False, 1 / 3),
    "one axis": (lambda style: Conv1d(4, 6, 5, style=style), True, 1),
    "transposed": (lambda style: ConvTranspose2d(4, 6, (2, 2), style=style), False, 2),
    "transposed by 1": (lambda style: ConvTranspose2d(4, 6, (2, 1), extra_bins=1, style=style), False, 1),
    "transposed by 3": (lambda style: ConvTranspose2d(4, 6, (1, 3), style=style), False, 3),
    "residual": (
        lambda style: ResidualUnit(4, 2, 3, 2, num_bins=8, true_skip=False, activation="ELU", style=style),
        False,
        1,
    ),
    "true skip": (
        lambda style: ResidualUnit(4, 2, 3, 2, num_bins=8, true_skip=True, activation="ELU", style=style),
        False,
        1,
    ),
}


def build(name, style):
    """The layer in float64 and evaluation mode, input for it, and its output frames per input frame."""
    torch.manual_seed(0)
    make, on_latents, rate = LAYERS[name]
    channels = 4 * (2 if style.complex_valued else 1)
    shape = (2, channels, 24) if on_latents else (2, channels, 8, 24)
    return make(style).double().eval(), torch.randn(shape, dtype=torch.float64), rate


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_future_frame_changes_no_past_output(name, pad_mode, complex_valued):
    layer, features, rate = build(name, ConvStyle(complex_valued, "none", pad_mode, causal=True))
    output = layer(features)
    assert output.shape[-1] == round(24 * rate)
    for first in (6, 12, 18):  # whole steps of every stride
        changed = features.clone()
        changed[..., first:] = torch.randn_like(changed[..., first:])
        past = round(first * rate)
        torch.testing.assert_close(layer(changed)[..., :past], output[..., :past], rtol=0, atol=1e-12)
        assert not torch.allclose(layer(changed)[..., past:], output[..., past:])
        torch.testing.assert_close(layer(features[..., :first]), output[..., :past], rtol=0, atol=1e-12)


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["strided", "transposed", "residual"])
def test_no_norm_shows_the_future(name, norm, complex_valued):
    layer, features, rate = build(name, ConvStyle(complex_valued, norm, "reflect", causal=True))
    changed = features.clone()
    changed[..., 12:] *= 10
    past = round(12 * rate)
    torch.testing.assert_close(layer(changed)[..., :past], layer(features)[..., :past], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "strided", "transposed", "one axis"])
def test_a_layer_that_is_not_causal_shows_the_future(name):
    """So that the tests above can fail."""
    layer, features, rate = build(name, ConvStyle(False))
    changed = features.clone()
    changed[..., 12:] += 1
    past = round(12 * rate)
    assert not torch.allclose(layer(changed)[..., :past], layer(features)[..., :past])


@pytest.mark.parametrize("name", ["plain", "even", "dilated", "one axis"])
def test_the_causal_layer_is_the_other_one_delayed(name):
    style = ConvStyle(True, "none", "zeros")
    plain, features, _ = build(name, style)
    causal, _, _ = build(name, replace(style, causal=True))
    delay = (plain.kernel_size[-1] - 1) * plain.dilation[-1] // 2
    late = causal(functional.pad(features, (0, delay)))
    torch.testing.assert_close(late[..., delay:], plain(features))


def test_the_receptive_field_stays():
    for causal in (False, True):
        style = ConvStyle(False, "none", "zeros", causal)
        network = torch.nn.Sequential(
            Conv2d(1, 1, (1, 3), style=style), Conv2d(1, 1, (2, 8), stride=(1, 4), style=style)
        )
        assert receptive_field(network) == 10


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_complex_convolutions_against_complex128(groups):
    torch.manual_seed(0)
    layer = Conv2d(8, 12, (3, 3), dilation=(1, 2), style=ConvStyle(True, "none", "zeros"), groups=groups)
    layer = layer.double()
    spectrogram = torch.randn(2, 8, 6, 9, dtype=torch.complex128)
    weight, bias = (torch.complex(*value.detach().unbind(0)) for value in (layer.weight, layer.bias))
    assert weight.shape == (12, 8 // groups, 3, 3)
    expected = functional.conv2d(spectrogram, weight, bias, 1, (1, 2), (1, 2), groups)
    torch.testing.assert_close(unstack(layer(stack(spectrogram))), expected)
    assert torch.autograd.gradcheck(layer, torch.randn(1, 16, 3, 3, dtype=torch.float64, requires_grad=True))


def test_grouped_real_convolutions_are_the_library():
    layer = Conv2d(8, 12, (3, 3), style=ConvStyle(False, "none", "zeros"), groups=4)
    features = torch.randn(2, 8, 6, 9)
    expected = functional.conv2d(features, layer.weight, layer.bias, padding=1, groups=4)
    torch.testing.assert_close(layer(features), expected)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_groups_keep_the_initial_gain(complex_valued):
    torch.manual_seed(0)
    layer = Conv2d(64, 64, (3, 3), style=ConvStyle(complex_valued), groups=8)
    features = torch.randn(4, 64 * (2 if complex_valued else 1), 24, 24)
    assert layer(features).var().item() == pytest.approx(1.0, rel=0.1)

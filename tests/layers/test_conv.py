"""Convolutions against complex128 arithmetic of the library, and their shapes."""

import cmath
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.dsp.complex_channels import join, split, stack, unstack
from pipeline.layers.conv import Conv1d, Conv2d, Convolution, ConvStyle, ConvTranspose2d, sum_in_blocks
from pipeline.layers.norm import ComplexGroupNorm

COMPLEX = ConvStyle(complex_valued=True)
REAL = ConvStyle(complex_valued=False)

# Name: layer, channels and axes of its input, axes of its output.
CASES = {
    "plain": (lambda: Conv2d(6, 5, (3, 3), style=COMPLEX), (6, 9, 8), (9, 8)),
    "dilated": (lambda: Conv2d(6, 5, (3, 3), dilation=(1, 4), style=COMPLEX), (6, 9, 12), (9, 12)),
    "strided": (lambda: Conv2d(6, 5, (8, 4), stride=(4, 2), style=COMPLEX), (6, 33, 8), (8, 4)),
    "odd_stride": (lambda: Conv2d(6, 5, (6, 2), stride=(3, 1), style=COMPLEX), (6, 32, 8), (10, 8)),
    "zeros": (lambda: Conv2d(6, 5, (5, 3), style=ConvStyle(True, "none", "zeros")), (6, 9, 8), (9, 8)),
    "even_zeros": (lambda: Conv2d(6, 5, (4, 3), style=ConvStyle(True, "none", "zeros")), (6, 9, 8), (9, 8)),
    "one_axis": (lambda: Conv1d(12, 4, 7, style=COMPLEX), (12, 20), (20,)),
    "transposed": (lambda: ConvTranspose2d(8, 3, (4, 2), style=COMPLEX), (8, 5, 6), (20, 12)),
    "extra_bin": (lambda: ConvTranspose2d(8, 3, (4, 2), extra_bins=1, style=COMPLEX), (8, 5, 6), (21, 12)),
    "extra_bins": (lambda: ConvTranspose2d(8, 3, (5, 1), extra_bins=4, style=COMPLEX), (8, 5, 6), (29, 6)),
    "stride_one": (lambda: ConvTranspose2d(8, 3, (1, 3), style=COMPLEX), (8, 5, 6), (5, 18)),
}


def _pad(tensor: Tensor, layer: Convolution) -> Tensor:
    """Pads by dilated kernel less stride, the larger half in front, with the library."""
    flat: list[int] = []
    for kernel, step, gap in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True):
        total = (kernel - 1) * gap + 1 - step
        flat = [math.ceil(total / 2), total // 2, *flat]
    mode = "reflect" if layer.style.pad_mode == "reflect" else "constant"
    if not tensor.is_complex():
        return functional.pad(tensor, flat, mode=mode)
    return torch.complex(*(functional.pad(part, flat, mode=mode) for part in (tensor.real, tensor.imag)))


def _library(layer: Convolution, tensor: Tensor, weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The layer's convolution of real or complex tensors by the library, without bias."""
    if not isinstance(layer, ConvTranspose2d):
        convolve = functional.conv1d if isinstance(layer, Conv1d) else functional.conv2d
        return convolve(_pad(tensor, layer), weight, None, layer.stride, 0, layer.dilation)
    full = functional.conv_transpose2d(tensor, weight, None, layer.stride)
    for dim, (step, wanted) in enumerate(zip(layer.stride, axes, strict=True), start=2):
        extra = wanted - tensor.shape[dim] * step
        full = full.narrow(dim, min(math.ceil(step / 2), step - extra), wanted)
    return full


def _gradients(output: Tensor, target: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of sum(target * output) over the parts of complex tensors, in float64 and stacked."""
    parts = (output.real, output.imag) if output.is_complex() else split(output)
    loss = sum((part * wanted).sum() for part, wanted in zip(parts, split(target), strict=True))
    gradients = torch.autograd.grad(loss, inputs)
    return [
        (torch.view_as_real(gradient).movedim(-1, 0) if gradient.is_complex() else gradient).double()
        for gradient in gradients
    ]


def _relative(value: Tensor, reference: Tensor) -> float:
    return ((value - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize("name", CASES)
def test_complex_arithmetic_against_complex128(name):
    torch.manual_seed(0)
    build, shape, axes = CASES[name]
    layer = build()
    spectrogram = torch.randn(2, *shape, dtype=torch.complex64)

    exact_in = spectrogram.to(torch.complex128).requires_grad_()
    exact_weight = torch.complex(*layer.weight.detach().double().unbind(0)).requires_grad_()
    exact_bias = torch.complex(*layer.bias.detach().double().unbind(0)).requires_grad_()
    bias_shape = (-1, *(1,) * len(axes))
    exact = _library(layer, exact_in, exact_weight, axes) + exact_bias.view(bias_shape)

    stacked = stack(spectrogram).requires_grad_()
    output = layer(stacked)
    assert output.shape[2:] == axes
    assert _relative(unstack(output.detach()).to(torch.complex128), exact.detach()) <= 1e-6

    real, imag = (part.detach().clone().requires_grad_() for part in split(stacked))
    kernel = layer.weight.detach().clone().requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    plain = join(
        _library(layer, real, kernel[0], axes) - _library(layer, imag, kernel[1], axes),
        _library(layer, real, kernel[1], axes) + _library(layer, imag, kernel[0], axes),
    ) + bias.flatten().view(bias_shape)

    target = torch.randn_like(plain)
    ours = _gradients(output, target, [stacked, layer.weight, layer.bias])
    ours[0] = torch.stack(split(ours[0]))
    plain_real, plain_imag, *plain_rest = _gradients(plain, target, [real, imag, kernel, bias])
    exact_all = _gradients(exact, target.double(), [exact_in, exact_weight, exact_bias])
    plain_all = [torch.stack((plain_real, plain_imag)), *plain_rest]
    for gradient, plain_gradient, reference in zip(ours, plain_all, exact_all, strict=True):
        # Below one unit in the last place of float32 the comparison of two errors says nothing.
        assert _relative(gradient, reference) <= max(2 * _relative(plain_gradient, reference), 2**-23)


def test_small_imaginary_parts_are_kept():
    layer = Conv2d(8, 8, (3, 3), style=COMPLEX, bias=False)
    spectrogram = torch.complex(torch.randn(1, 8, 9, 9), 1e-3 * torch.randn(1, 8, 9, 9))
    with torch.no_grad():
        layer.weight[1] *= 1e-3
        output = unstack(layer(stack(spectrogram)))
        weight = torch.complex(*layer.weight.double().unbind(0))
        exact = _library(layer, spectrogram.to(torch.complex128), weight, (9, 9))
    assert _relative(output.imag.double(), exact.imag) <= 1e-6


@pytest.mark.parametrize("name", CASES)
def test_rotating_the_input_rotates_the_output(name):
    build, shape, _ = CASES[name]
    layer = build().double()
    layer.bias = None
    spectrogram = torch.randn(2, *shape, dtype=torch.complex128)
    turn = cmath.exp(0.7j)
    rotated = unstack(layer(stack(spectrogram * turn)))
    torch.testing.assert_close(rotated, unstack(layer(stack(spectrogram))) * turn, rtol=1e-12, atol=1e-12)


def test_real_layers_are_the_library():
    features = torch.randn(2, 4, 9, 8)
    layer = Conv2d(4, 6, (3, 3), style=ConvStyle(False, "none", "zeros"))
    expected = functional.conv2d(features, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(features), expected)
    assert ConvTranspose2d(4, 2, (4, 2), extra_bins=1, style=REAL)(features).shape == (2, 2, 37, 16)
    assert Conv2d(4, 2, (8, 4), stride=(4, 2), style=REAL)(torch.randn(1, 4, 1025, 8)).shape == (1, 2, 256, 4)


@pytest.mark.parametrize("build", [CASES[name][0] for name in ("plain", "transposed", "one_axis")])
def test_complex_weight_is_one_real_parameter(build):
    layer = build()
    channels = (layer.in_channels, layer.out_channels)
    order = channels if layer.transposed else channels[::-1]
    assert dict(layer.named_parameters()).keys() == {"weight", "bias"}
    assert layer.weight.shape == (2, *order, *layer.kernel_size)
    assert layer.bias.shape == (2, layer.out_channels)


@pytest.mark.parametrize("style", [ConvStyle(True, "weight_norm"), ConvStyle(False, "weight_norm")])
@pytest.mark.parametrize("transposed", [False, True])
def test_weight_norm_learns_one_length_per_output_filter(style, transposed):
    layer = ConvTranspose2d(4, 3, (2, 2), style=style) if transposed else Conv2d(4, 3, (3, 3), style=style)
    lengths = layer.parametrizations.weight.original0
    assert lengths.numel() == 3
    output_axis = int(style.complex_valued) + int(transposed)
    filters = layer.weight.movedim(output_axis, 0).flatten(1)
    torch.testing.assert_close(filters.norm(dim=1), lengths.flatten())


def test_group_norm_is_applied_to_the_output():
    layer = Conv2d(4, 6, (3, 3), style=ConvStyle(True, "group_norm"))
    assert isinstance(layer.norm, ComplexGroupNorm)
    real, imag = split(layer(torch.randn(2, 8, 16, 16)))
    torch.testing.assert_close(real.flatten(1).mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(imag.flatten(1).var(1), torch.ones(2), atol=1e-2, rtol=0)


@pytest.mark.parametrize("style", [COMPLEX, REAL])
def test_initial_gain_does_not_depend_on_the_kind(style):
    """Uniform weights in +-1/sqrt(fan-in) keep a third of the variance, bias aside."""
    torch.manual_seed(0)
    parts = 2 if style.complex_valued else 1
    features = torch.randn(4, 64 * parts, 24, 24)
    for layer in (
        Conv2d(64, 64, (3, 3), style=style, bias=False),
        ConvTranspose2d(64, 64, (4, 2), style=style, bias=False),
    ):
        assert layer(features).var().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    "style", [COMPLEX, REAL, ConvStyle(True, "weight_norm", "zeros", causal=True)], ids=str
)
@pytest.mark.parametrize("channels", [(12, 2), (2, 12)])
@pytest.mark.parametrize("length", [2, 9])
def test_one_axis_as_matrix_products(style: ConvStyle, channels: tuple[int, int], length: int) -> None:
    layer = Conv1d(*channels, 7, style=style).double()
    features = torch.randn(3, channels[0] * (2 if style.complex_valued else 1), length, dtype=torch.float64)
    features.requires_grad_()
    wanted = [features, *layer.parameters()]
    found, expected = layer.finish(layer.by_products(features)), layer(features)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    upstream = torch.randn_like(expected)
    for one, other in zip(
        *(torch.autograd.grad(each, wanted, upstream) for each in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_long_sums_are_cut_into_blocks() -> None:
    rows, matrix = torch.randn(2, 5, 4096), torch.randn(4096, 3)
    exact = rows.double() @ matrix.double()
    found = sum_in_blocks(rows, matrix)
    assert found.shape == exact.shape and not torch.equal(found, rows @ matrix)
    assert (found - exact).norm() <= 1e-6 * exact.norm()
    for other in (rows.double(), rows[..., :1000]):  # not float32; short
        terms = matrix[: other.shape[-1]].to(other.dtype)
        assert torch.equal(sum_in_blocks(other, terms), other @ terms)

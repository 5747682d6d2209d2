"""Convolutions of folded maps give what the layers give, values and gradients."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.activation import build_activation
from pipeline.layers.conv import Conv2d, ConvStyle, ConvTranspose2d
from pipeline.layers.exact_convolution import convolve_by_products
from pipeline.layers.folded import (
    FoldedMap,
    apply_folded,
    block_size,
    cannot_fold,
    convolve_folded,
)
from pipeline.layers.folding import fold, unfold
from pipeline.layers.residual import ResidualUnit

MAPS = [(33, 16), (17, 9), (8, 8), (5, 3), (3, 2), (1, 4)]  # odd, short, shorter than the kernel reaches
BLOCKS = [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4)]
STYLES = [
    ConvStyle(complex_valued, norm, pad_mode, causal)
    for complex_valued, norm, pad_mode, causal in itertools.product(
        (False, True), ("none", "weight_norm"), ("reflect", "zeros"), (False, True)
    )
]


def same(layer: nn.Module, features: Tensor, other: Tensor, found: Tensor) -> None:
    """Equal values, and equal gradients of the input and of every weight."""
    expected = layer(features)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    upstream, weights = torch.randn_like(expected), list(layer.parameters())
    wanted = torch.autograd.grad(expected, [features, *weights], upstream)
    for one, two in zip(wanted, torch.autograd.grad(found, [other, *weights], upstream), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)


def two_inputs(*shape: int) -> tuple[Tensor, Tensor]:
    features = torch.randn(*shape, dtype=torch.float64)
    return features.clone().requires_grad_(), features.clone().requires_grad_()


def prepared(layer: nn.Module) -> nn.Module:
    """In double precision and with biases that can be told from none."""
    for name, weight in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    return layer.double()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (4, 2), (3, 5)])
@pytest.mark.parametrize("shape", MAPS)
def test_unfolding_undoes_folding(size: tuple[int, int], shape: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *shape)
    folded = FoldedMap.of(features).in_blocks(size)
    assert folded.features.shape[1] == 3 * size[0] * size[1]
    assert torch.equal(unfold(fold(features, size), folded.grid), features)


@pytest.mark.parametrize("style", STYLES, ids=str)
@pytest.mark.parametrize(
    ("kernel", "dilation"), [((7, 7), 1), ((3, 3), 1), ((3, 3), 2), ((1, 1), 1), ((5, 2), 1)]
)
def test_a_convolution_of_blocks(style: ConvStyle, kernel: tuple[int, int], dilation: int) -> None:
    channels = (3, 2) if style.complex_valued else (6, 4)
    layer = prepared(Conv2d(*channels, kernel, dilation=(1, dilation), style=style))
    assert isinstance(layer, Conv2d)
    for shape, size in itertools.product(MAPS, BLOCKS):
        one, two = two_inputs(2, 6, *shape)
        folded = FoldedMap.of(two).in_blocks(size)
        taps = layer.taps(folded.grid, size)
        same(layer, one, two, convolve_folded(layer, folded, layer.real_weight(), taps).unfolded())


@pytest.mark.parametrize("style", STYLES[::2], ids=str)
@pytest.mark.parametrize("stride", [(4, 2), (1, 2), (2, 1), (4, 4)])
def test_a_strided_convolution_of_blocks(style: ConvStyle, stride: tuple[int, int]) -> None:
    channels = (3, 2) if style.complex_valued else (6, 4)
    layer = prepared(Conv2d(*channels, (2 * stride[0], 2 * stride[1]), stride, style=style))
    assert isinstance(layer, Conv2d)
    for shape, given, wanted in itertools.product(MAPS[:3], BLOCKS, BLOCKS):
        if any(step * out % size for step, out, size in zip(stride, wanted, given, strict=True)):
            continue
        one, two = two_inputs(2, 6, *shape)
        folded = FoldedMap.of(two).in_blocks(given)
        taps = layer.taps(folded.grid, wanted)
        same(layer, one, two, convolve_folded(layer, folded, layer.real_weight(), taps).unfolded())


@pytest.mark.parametrize("style", STYLES[::2], ids=str)
@pytest.mark.parametrize(
    ("stride", "extra"), [((4, 2), 1), ((4, 2), 3), ((1, 2), 0), ((2, 1), 0), ((1, 1), 0)]
)
def test_an_upsampling_to_blocks(style: ConvStyle, stride: tuple[int, int], extra: int) -> None:
    channels = (3, 2) if style.complex_valued else (6, 4)
    layer = prepared(ConvTranspose2d(*channels, stride, extra_bins=extra, style=style))
    assert isinstance(layer, ConvTranspose2d)
    for shape in MAPS:
        one, two = two_inputs(2, 6, *shape)
        folded = FoldedMap.of(two)
        weight = layer.real_weight().transpose(0, 1)
        same(layer, one, two, convolve_folded(layer, folded, weight, layer.taps(folded.grid)).unfolded())


@pytest.mark.parametrize(
    "activation", ["CReLU", "ELU", "PReLU", "Snake", "modReLU", "CGLU", "PhaseGELU", "CSnake"]
)
@pytest.mark.parametrize("true_skip", [True, False])
def test_a_chain(activation: str, true_skip: bool) -> None:
    style = ConvStyle(complex_valued=True, norm="weight_norm")
    unit = ResidualUnit(4, 2, 3, 1, num_bins=33, true_skip=true_skip, activation=activation, style=style)
    chain = prepared(
        nn.Sequential(
            Conv2d(2, 4, (7, 7), style=style),
            unit,
            build_activation(activation, True, 4, 33),
            Conv2d(4, 8, (8, 4), (4, 2), style=style),
            build_activation(activation, True, 8, 8),
            ConvTranspose2d(8, 4, (4, 2), extra_bins=1, style=style),
            Conv2d(4, 2, (7, 7), style=style),
        )
    )
    assert cannot_fold(chain) is None
    one, two = two_inputs(2, 4, 33, 16)
    same(chain, one, two, apply_folded(chain, two))


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("taps", [(3, 3), (2, 1)])
def test_a_convolution_by_products(stride: tuple[int, int], taps: tuple[int, int]) -> None:
    features = torch.randn(2, 4, 9, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, *taps, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(features, weight, stride=stride)
    compiled = torch.compile(
        lambda: convolve_by_products(features, weight, stride), fullgraph=True, backend="aot_eager"
    )
    for found in (convolve_by_products(features, weight, stride), compiled()):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        upstream = torch.randn_like(expected)
        gradients = (
            torch.autograd.grad(each, (features, weight), upstream, retain_graph=True)
            for each in (found, expected)
        )
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_folded_layers_by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.layers.folded._is_exact", lambda features: True)  # as a GPU without TF32 is
    style = ConvStyle(complex_valued=True, norm="weight_norm")
    wide = Conv2d(1, 4, (3, 3), style=style), Conv2d(4, 8, (8, 4), (4, 2), style=style)
    chain = prepared(nn.Sequential(*wide, ConvTranspose2d(8, 4, (4, 2), extra_bins=1, style=style)))
    one, two = two_inputs(2, 2, 33, 16)
    same(chain, one, two, apply_folded(chain, two))


def test_folded_maps_have_the_precision_of_the_layers() -> None:
    chain = nn.Sequential(Conv2d(2, 4, (3, 3), style=ConvStyle(complex_valued=True)))
    with torch.autocast("cpu", torch.bfloat16):
        assert apply_folded(chain, torch.randn(1, 4, 8, 8)).dtype == torch.bfloat16


def test_blocks_make_channels_wide() -> None:
    assert [block_size(channels) for channels in (4, 8, 16, 24, 32, 128)] == [
        (4, 4), (4, 4), (4, 2), (2, 2), (1, 1), (1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("style", "groups", "reason"),
    [
        (ConvStyle(True, "batch_norm"), 1, "batch_norm"),
        (ConvStyle(False, "group_norm"), 1, "group_norm"),
        (ConvStyle(False), 2, "grouped"),
    ],
)
def test_what_cannot_be_folded_says_why(style: ConvStyle, groups: int, reason: str) -> None:
    layer = Conv2d(4, 4, (3, 3), style=style, groups=groups)
    assert reason in str(cannot_fold(nn.Sequential(layer)))
    assert "per bin" in str(cannot_fold(nn.Sequential(build_activation("freqModReLU", True, 4, 33))))

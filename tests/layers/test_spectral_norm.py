"""Spectral norm against the singular value decomposition of the library."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from pipeline.layers.conv import Conv1d, Conv2d, ConvStyle, ConvTranspose2d

KINDS = [False, True]
LAYERS = {
    "plain": lambda style: Conv2d(4, 6, (3, 3), style=style),
    "one axis": lambda style: Conv1d(4, 6, 3, style=style),
    "transposed": lambda style: ConvTranspose2d(4, 6, (2, 2), style=style),
}


def build(name, complex_valued):
    torch.manual_seed(0)
    return LAYERS[name](ConvStyle(complex_valued, "spectral_norm")).double()


def run(layer):
    """One training pass."""
    axes = (5, 6)[: len(layer.kernel_size)]
    channels = 4 * (2 if layer.style.complex_valued else 1)
    return layer(torch.randn(2, channels, *axes, dtype=torch.float64))


def settle(layer):
    """As after many training passes, each of which reads the weight once."""
    for _ in range(200):
        assert layer.training and layer.weight is not None


def singular_values(layer, weight):
    """Of the matrix (outputs, everything else), complex in a complex layer."""
    matrix = torch.complex(*weight.unbind(0)) if layer.style.complex_valued else weight
    matrix = (matrix.transpose(0, 1) if layer.transposed else matrix).flatten(1)
    return torch.linalg.svdvals(matrix)


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_becomes_one(name, complex_valued):
    layer = build(name, complex_valued)
    raw = layer.parametrizations.weight.original.detach()
    settle(layer)
    layer.eval()
    largest = singular_values(layer, raw)[0]
    torch.testing.assert_close(layer.weight.detach(), raw / largest, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(singular_values(layer, layer.weight.detach())[0].item(), 1.0)


def test_of_a_complex_weight_it_is_the_norm_of_the_block_matrix():
    layer = build("plain", True)
    settle(layer)
    block = layer.eval().real_weight().detach()
    values = torch.linalg.svdvals(block.flatten(1))
    # Every singular value of the complex matrix comes twice.
    torch.testing.assert_close(values[:2], torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_the_first_passes_are_close_already(complex_valued):
    layer = build("plain", complex_valued)
    run(layer)
    assert singular_values(layer, layer.eval().weight.detach())[0].item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_the_gradient_is_that_of_the_quotient(complex_valued):
    layer = build("plain", complex_valued)
    settle(layer)
    layer.eval()
    raw = layer.parametrizations.weight.original
    target = torch.randn_like(raw)
    (ours,) = torch.autograd.grad((layer.weight * target).sum(), raw)
    twin = raw.detach().clone().requires_grad_()
    largest = singular_values(layer, twin)[0]
    (expected,) = torch.autograd.grad((twin / largest * target).sum(), twin)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_it_is_repeatable_and_its_state_is_in_the_checkpoint(complex_valued):
    first, second = build("plain", complex_valued), build("plain", complex_valued)
    for _ in range(3):
        torch.manual_seed(1)
        one = run(first)
        torch.manual_seed(1)
        assert torch.equal(run(second), one)
    third = build("plain", complex_valued)
    third.load_state_dict(copy.deepcopy(first.state_dict()), strict=True)
    torch.manual_seed(2)
    one = run(first)
    torch.manual_seed(2)
    assert torch.equal(run(third), one)


def test_evaluation_and_recomputation_leave_the_state():
    layer = build("plain", True)
    features = torch.randn(1, 8, 5, 6, dtype=torch.float64, requires_grad=True)
    twin = copy.deepcopy(layer)
    layer(features).sum().backward()
    checkpoint(twin, features, use_reentrant=False).sum().backward()
    layer.eval()(features)
    for name, value in layer.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value), name


def test_two_passes_before_one_backward_pass():
    layer = build("plain", True)
    (run(layer).sum() + run(layer).sum()).backward()
    assert torch.isfinite(layer.parametrizations.weight.original.grad).all()


def test_it_computes_in_float32_under_autocast():
    torch.manual_seed(0)
    layer = Conv2d(4, 6, (3, 3), style=ConvStyle(True, "spectral_norm")).eval()
    expected = layer.weight.detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight.detach(), expected)

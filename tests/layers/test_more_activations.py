"""Activations against complex128 arithmetic, and what each of them keeps of the phase."""

import cmath
import math

import pytest
import torch
from torch import nn

from pipeline.dsp.complex_channels import stack, unstack
from pipeline.layers import COMPLEX_ACTIVATIONS
from pipeline.layers.activation import build_activation
from pipeline.layers.activation_names import activation_choices
from pipeline.layers.phase_preserving import ModReLU

CHANNELS, BINS = 3, 5
PHASE_PRESERVING = {"AbsSiLU", "CGLU", "PhaseGELU", "freqModReLU", "modReLU"}


def build(name, seed=0):
    """An activation in float64 whose parameters are not those of the start."""
    torch.manual_seed(seed)
    activation = build_activation(name, True, CHANNELS, BINS).double()
    for parameter in activation.parameters():
        nn.init.uniform_(parameter, 0.2, 0.9)
    return activation


def spectrogram(seed=1):
    torch.manual_seed(seed)
    return torch.randn(2, CHANNELS, BINS, 4, dtype=torch.complex128)


def per_channel(values):
    return values.view(-1, 1, 1)


REFERENCES = {
    "AbsSiLU": lambda module, z: z / (1 + torch.exp(-z.abs())),
    "PhaseGELU": lambda module, z: (
        z
        * torch.special.ndtr(
            (z.abs() - per_channel(module.mean)) / (per_channel(module.log_width).exp() + 1e-3)
        )
    ),
    "freqModReLU": lambda module, z: torch.relu(z.abs() + module.bias) * torch.sgn(z),
    "modReLU": lambda module, z: torch.relu(z.abs() + per_channel(module.bias)) * torch.sgn(z),
    "CReLU": lambda module, z: torch.complex(torch.relu(z.real), torch.relu(z.imag)),
    "CGLU": lambda module, z: (
        z
        * torch.sigmoid(
            torch.einsum("oi,bift->boft", module.gate.weight, z.abs()) + per_channel(module.gate.bias)
        )
    ),
    "CSnake": lambda module, z: z + torch.sin(per_channel(module.alpha) * z) ** 2 / per_channel(module.alpha),
}


@pytest.mark.parametrize("name", COMPLEX_ACTIVATIONS)
def test_against_complex128(name):
    module, values = build(name), spectrogram()
    values = 0.3 * values  # inside the strip of CSnake
    torch.testing.assert_close(unstack(module(stack(values))), REFERENCES[name](module, values))


@pytest.mark.parametrize("name", activation_choices(complex_valued=True))
def test_which_of_them_turn_with_their_input(name):
    module, values, turn = build(name), spectrogram(), cmath.exp(0.8j)
    turned, expected = unstack(module(stack(values * turn))), unstack(module(stack(values))) * turn
    assert torch.allclose(turned, expected, atol=1e-9) == (name in PHASE_PRESERVING)


@pytest.mark.parametrize("name", COMPLEX_ACTIVATIONS)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4])
def test_values_and_gradients_are_finite(name, size):
    activation = build_activation(name, True, CHANNELS, BINS)
    stacked = torch.full((1, 2 * CHANNELS, BINS, 2), size, requires_grad=True)
    output = activation(stacked)
    gradients = torch.autograd.grad(output.sum(), [stacked, *activation.parameters()])
    assert torch.isfinite(output).all() and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", activation_choices(complex_valued=True))
def test_half_precision_stays(name):
    activation = build_activation(name, True, CHANNELS, BINS)
    with torch.autocast("cpu", torch.bfloat16):
        assert activation(torch.randn(2, 2 * CHANNELS, BINS, 4).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["CGLU", "CSnake", "PhaseGELU", "freqModReLU"])
def test_gradients(name):
    assert torch.autograd.gradcheck(build(name), stack(spectrogram()).requires_grad_())


def test_an_activation_per_bin_is_one_per_channel_where_there_are_no_bins():
    assert build_activation("freqModReLU", True, CHANNELS, BINS).bias.shape == (CHANNELS, BINS, 1)
    assert isinstance(build_activation("freqModReLU", True, CHANNELS), ModReLU)


def test_phase_gelu_starts_as_the_gelu_of_the_magnitude():
    values = spectrogram()
    expected = nn.functional.gelu(values.abs()) * torch.sgn(values)
    output = unstack(build_activation("PhaseGELU", True, CHANNELS).double()(stack(values)))
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-7)


def test_the_complex_snake_does_not_explode():
    activation = build_activation("CSnake", True, 1)
    far = activation(torch.tensor([0.3, 50.0]).view(1, 2, 1, 1)).flatten()
    assert abs(far[1].item() - 50) < math.sinh(2)


def test_real_gates_and_snakes():
    features = torch.randn(2, CHANNELS, BINS, 4, dtype=torch.float64)
    gated = build_activation("GLU", False, CHANNELS).double()
    logits = torch.einsum("oi,bift->boft", gated.gate.weight, features)
    torch.testing.assert_close(gated(features), features * torch.sigmoid(logits))
    snake = build_activation("Snake", False, CHANNELS).double()
    nn.init.constant_(snake.alpha, 0.5)
    torch.testing.assert_close(snake(features), features + 2 * torch.sin(0.5 * features) ** 2)
    assert build_activation("Snake", True, CHANNELS).alpha.shape == (2 * CHANNELS,)


@pytest.mark.parametrize("name", ["ELU", "CELU"])
def test_celu_of_torch_is_the_split_celu(name):
    values = spectrogram()
    expected = torch.complex(nn.functional.elu(values.real), nn.functional.elu(values.imag))
    torch.testing.assert_close(unstack(build(name)(stack(values))), expected)

import cmath

import pytest
import torch
from torch import nn

from pipeline.config.registry import load
from pipeline.dsp.complex_channels import stack, unstack
from pipeline.errors import ConfigError
from pipeline.layers import COMPLEX_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, REAL_ACTIVATIONS
from pipeline.layers.activation import build_activation
from pipeline.layers.activation_names import activation_choices
from pipeline.layers.phase_preserving import ModReLU


@pytest.mark.parametrize("complex_valued", [False, True])
def test_every_choice_is_built_and_elementwise(complex_valued):
    for name in activation_choices(complex_valued):
        activation = build_activation(name, complex_valued, 3)
        features = torch.randn(2, 6 if complex_valued else 3, 5, 4)
        output = activation(features)
        assert output.shape == features.shape
        torch.testing.assert_close(activation(features[:1, :, 2:3]), output[:1, :, 2:3])
        torch.testing.assert_close(activation(features[:, :, :, 1:2]), output[:, :, :, 1:2])


def test_every_argument_free_elementwise_activation_of_torch_is_a_choice():
    """Left out: activations over an axis, with required arguments or with random numbers."""
    others = {
        "GLU",
        "LogSoftmax",
        "MultiheadAttention",
        "RReLU",
        "Softmax",
        "Softmax2d",
        "Softmin",
        "Threshold",
    }
    assert set(torch.nn.modules.activation.__all__) - others == set(ELEMENTWISE_ACTIVATIONS)


@pytest.mark.parametrize(
    ("name", "complex_valued", "message"),
    [
        ("Softmax", False, "^activation='Softmax' is no elementwise activation.*ELU"),
        ("GELu", False, "did you mean 'GELU'"),
        ("MultiheadAttention", True, "modReLU"),
        ("CReLU", False, "^activation='CReLU' needs complex_valued=true.*ReLU6"),
        ("Linear", True, "no elementwise activation"),
        ("GLU", True, "^activation='GLU' needs complex_valued=false.* CGLU"),
        ("CSnake", False, "^activation='CSnake' needs complex_valued=true"),
    ],
)
def test_other_names_are_refused_with_the_choices(name, complex_valued, message):
    with pytest.raises(ConfigError, match=message):
        build_activation(name, complex_valued, 3)


@pytest.mark.parametrize("registry", [COMPLEX_ACTIVATIONS, REAL_ACTIVATIONS])
def test_registered_names_lead_to_their_classes(registry):
    for name, target in registry.items():
        assert load(target).__name__.lower() == name.lower()
        assert issubclass(load(target), nn.Module)


def test_crelu_clips_each_part():
    spectrogram = torch.tensor([1 - 2j, -3 + 4j]).view(1, 2, 1, 1)
    expected = torch.tensor([1 + 0j, 4j]).view(1, 2, 1, 1)
    assert torch.equal(unstack(build_activation("CReLU", True, 2)(stack(spectrogram))), expected)


def test_modrelu_hand_worked_values():
    activation = ModReLU(3)
    with torch.no_grad():
        activation.bias.copy_(torch.tensor([-2.0, -6.0, 5.0]))
    spectrogram = torch.tensor([3 + 4j, 3 + 4j, 3 + 4j]).view(1, 3, 1, 1)
    expected = torch.tensor([1.8 + 2.4j, 0j, 6 + 8j]).view(1, 3, 1, 1)
    torch.testing.assert_close(unstack(activation(stack(spectrogram))), expected)


def test_modrelu_starts_as_the_identity_and_rotates_with_its_input():
    activation = ModReLU(3).double()
    spectrogram = torch.randn(2, 3, 5, 4, dtype=torch.complex128)
    torch.testing.assert_close(unstack(activation(stack(spectrogram))), spectrogram)
    nn.init.uniform_(activation.bias, -1, 0.2)
    turn = cmath.exp(1.3j)
    rotated = unstack(activation(stack(spectrogram * turn)))
    torch.testing.assert_close(rotated, unstack(activation(stack(spectrogram))) * turn)


@pytest.mark.parametrize("bias", [-0.5, 0.0, 0.5])
def test_modrelu_has_finite_gradients_at_zero(bias):
    activation = ModReLU(2)
    nn.init.constant_(activation.bias, bias)
    stacked = torch.zeros(1, 4, 3, 3, requires_grad=True)
    output = activation(stacked)
    gradients = torch.autograd.grad(output.sum() + output.square().sum(), [stacked, activation.bias])
    assert torch.equal(output, torch.zeros_like(output))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modrelu_in_half_precision(dtype):
    stacked = torch.tensor([0.0, 1e-4, 3.0, 0.0, 0.0, 4.0], dtype=dtype).view(1, 2, 3)
    output = ModReLU(1)(stacked)
    assert output.dtype == dtype
    torch.testing.assert_close(output, stacked)

"""Attention against the library's, and what its positions mean."""

import pytest
import torch
from torch import nn

from pipeline.dsp.complex_channels import stack, unstack
from pipeline.layers.attention import Attention, TransformerBlock, rotate
from pipeline.layers.convolution import ConvStyle
from pipeline.layers.sequence import LatentLSTM

KINDS = [False, True]


def linear(layer, features):
    """A 1x1 convolution as a complex matrix."""
    weight = torch.complex(*layer.weight.detach().unbind(0))[..., 0]
    return torch.einsum("oi,bis->bos", weight, features)


def turned(heads, positions):
    """Rotary positions of complex heads (B, H, d, S)."""
    exponents = torch.arange(heads.shape[2], dtype=torch.float64) / heads.shape[2]
    return heads * torch.exp(1j * (10000.0 ** (-exponents)).unsqueeze(-1) * positions)


@pytest.mark.parametrize("causal", KINDS)
def test_complex_attention_against_complex128(causal):
    torch.manual_seed(0)
    attention = Attention(6, 2, ConvStyle(True)).double()
    features, positions = torch.randn(2, 6, 5, dtype=torch.complex128), torch.tensor([0, 1, 1, 2, 4])
    queries, keys = (
        turned(linear(layer, features).unflatten(1, (2, 3)), positions)
        for layer in (attention.queries, attention.keys)
    )
    values = linear(attention.values, features).unflatten(1, (2, 3))
    scores = torch.einsum("bhdq,bhdk->bhqk", queries.conj(), keys).real / 6**0.5
    if causal:
        scores = scores.masked_fill(positions[None, :] > positions[:, None], -torch.inf)
    mixed = torch.einsum("bhqk,bhdk->bhdq", scores.softmax(-1).to(values.dtype), values)
    expected = linear(attention.output, mixed.flatten(1, 2))
    torch.testing.assert_close(unstack(attention(stack(features), positions, causal)), expected)


def test_real_attention_is_the_librarys():
    torch.manual_seed(0)
    attention = Attention(8, 2, ConvStyle(False)).double()
    features = torch.randn(2, 8, 5, dtype=torch.float64)
    positions = torch.zeros(5)  # nothing is turned
    queries, keys, values = (
        layer(features).unflatten(1, (2, 4)).mT
        for layer in (attention.queries, attention.keys, attention.values)
    )
    mixed = nn.functional.scaled_dot_product_attention(queries, keys, values).mT.flatten(1, 2)
    torch.testing.assert_close(attention(features, positions, False), attention.output(mixed))


@pytest.mark.parametrize("complex_valued", KINDS)
def test_only_distances_count(complex_valued):
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, 16, "Tanh", ConvStyle(complex_valued)).double()
    features, positions = torch.randn(2, 16 if complex_valued else 8, 7, dtype=torch.float64), torch.arange(7)
    torch.testing.assert_close(block(features, positions + 50), block(features, positions))
    assert not torch.allclose(block(features, 3 * positions), block(features, positions))


def test_positions_keep_lengths():
    heads = torch.randn(2, 3, 8, 5)
    torch.testing.assert_close(rotate(heads, torch.arange(5)).norm(dim=2), heads.norm(dim=2))


@pytest.mark.parametrize("complex_valued", KINDS)
def test_half_precision(complex_valued):
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, 16, "ELU", ConvStyle(complex_valued, causal=True))
    features = torch.randn(2, 16 if complex_valued else 8, 7)
    expected = block(features, torch.arange(7))
    with torch.autocast("cpu", torch.bfloat16):
        output = block(features, torch.arange(7))
    assert (output - expected).norm() < 0.02 * expected.norm()


def test_a_complex_lstm_is_two_real_ones():
    torch.manual_seed(0)
    model = LatentLSTM(4, 1, ConvStyle(True, causal=True)).double()
    first, second = (lambda x, net=net: net(x.mT)[0].mT for net in model.networks)
    real, imag = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    expected = torch.cat((real + first(real) - second(imag), imag + first(imag) + second(real)), 1)
    torch.testing.assert_close(model(torch.cat((real, imag), 1)), expected)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_an_lstm_of_both_directions_turns_round_with_its_input(complex_valued):
    torch.manual_seed(0)
    model = LatentLSTM(4, 1, ConvStyle(complex_valued)).double()
    for network in model.networks:  # equal weights for both directions
        for name, parameter in network.named_parameters():
            if name.endswith("_reverse"):
                parameter.data.copy_(getattr(network, name.removesuffix("_reverse")))
    latents = torch.randn(2, 8 if complex_valued else 4, 6, dtype=torch.float64)
    torch.testing.assert_close(model(latents.flip(-1)).flip(-1), model(latents))


@pytest.mark.parametrize("complex_valued", KINDS)
def test_an_lstm_on_a_cpu_does_not_round(complex_valued):
    model = LatentLSTM(4, 1, ConvStyle(complex_valued))
    latents = torch.randn(2, 8 if complex_valued else 4, 6)
    expected = model(latents)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(latents)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected)

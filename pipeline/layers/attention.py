"""Attention and transformer blocks over sequences of real features or of stacked complex ones."""

import math

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import join, split
from pipeline.dsp.precision import at_least_float32
from pipeline.layers.activation import build_activation
from pipeline.layers.conv import Conv1d
from pipeline.layers.convolution import ConvStyle
from pipeline.layers.norm import build_feature_norm

_LONGEST_PERIOD = 10000.0
_SMALL_BRANCH = 0.1


def rotate(heads: Tensor, positions: Tensor) -> Tensor:
    """Turns the k-th pair of each head by position * 10000^(-k / pairs), so that products see distances only.

    A pair is a real and an imaginary part in a complex network, and two channels in a real one.

    Args:
        heads: (..., 2 * pairs, S), first halves of the pairs before second halves.
        positions: (S,).

    Returns:
        As `heads`, in float32 at least.

    Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021, section 3.2.
    """
    first, second = split(at_least_float32(heads), dim=-2)
    num_pairs = first.shape[-2]
    exponents = torch.arange(num_pairs, device=heads.device, dtype=first.dtype) / num_pairs
    angles = _LONGEST_PERIOD ** (-exponents.unsqueeze(-1)) * positions.to(first.dtype)
    cosine, sine = angles.cos(), angles.sin()
    return join(first * cosine - second * sine, first * sine + second * cosine, dim=-2)


class Attention(nn.Module):
    """softmax(Re(Q^H K) / sqrt(d)) V for each head: weights are real, and a common phase passes through.

    Re(q^H k) of complex vectors is the plain product of their stacked parts, so that one code serves both kinds;
    d counts real numbers. The product is written out: fused kernels add up their gradients in any order.

    Args:
        num_channels: Channels, complex ones in a complex network.
        num_heads: Heads; divides the channels, into even widths in a real network.
        style: Real or complex.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2; complex as Eilers, Jiang,
        Building Blocks for a Complex-Valued Transformer Architecture, ICASSP 2023, section 3.1.
    """

    def __init__(self, num_channels: int, num_heads: int, style: ConvStyle) -> None:
        super().__init__()
        assert num_channels % num_heads == 0, f"{num_channels} channels in {num_heads} heads"
        self.num_heads, self.complex_valued = num_heads, style.complex_valued
        plain = ConvStyle(style.complex_valued)
        self.queries, self.keys, self.values, self.output = (
            Conv1d(num_channels, num_channels, 1, style=plain, bias=False) for _ in range(4)
        )

    def forward(self, features: Tensor, positions: Tensor, causal: bool) -> Tensor:
        """Maps (B, channels, S) to the same shape; positions (S,) count frames or bins.

        In a causal network no element sees one of a later position.
        """
        queries, keys = (
            rotate(self._heads(layer(features)), positions) for layer in (self.queries, self.keys)
        )
        values = self._heads(self.values(features))
        scores = queries.mT @ keys / math.sqrt(queries.shape[-2])
        if causal:
            scores = scores.masked_fill(positions.unsqueeze(0) > positions.unsqueeze(1), -torch.inf)
        weights = at_least_float32(scores).softmax(-1).to(values.dtype)
        return self.output(self._channels(values @ weights.mT))

    def _heads(self, features: Tensor) -> Tensor:
        """(B, channels, S) to (B, heads, real numbers per head, S)."""
        if self.complex_valued:
            return features.unflatten(1, (2, self.num_heads, -1)).transpose(1, 2).flatten(2, 3)
        return features.unflatten(1, (self.num_heads, -1))

    def _channels(self, heads: Tensor) -> Tensor:
        """The inverse of `_heads`."""
        if self.complex_valued:
            return heads.unflatten(2, (2, -1)).transpose(1, 2).flatten(1, 3)
        return heads.flatten(1, 2)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + W2 act(W1 norm(x)), with the layer norm of each element.

    Args:
        num_channels: Channels, complex ones in a complex network.
        num_heads: Heads of the attention.
        hidden_channels: Channels between W1 and W2.
        activation: Name, see `build_activation`.
        style: Real or complex, causal or not.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3; norms first as in Xiong et al.,
        On Layer Normalization in the Transformer Architecture, ICML 2020.
    """

    def __init__(
        self, num_channels: int, num_heads: int, hidden_channels: int, activation: str, style: ConvStyle
    ) -> None:
        super().__init__()
        kind, plain = style.complex_valued, ConvStyle(style.complex_valued)
        self.causal = style.causal
        self.attention_norm, self.feed_norm = (
            build_feature_norm("layer_norm", num_channels, complex_valued=kind, causal=True) for _ in range(2)
        )
        self.attention = Attention(num_channels, num_heads, style)
        last = Conv1d(hidden_channels, num_channels, 1, style=plain)
        self.feed = nn.Sequential(
            Conv1d(num_channels, hidden_channels, 1, style=plain),
            build_activation(activation, kind, hidden_channels),
            last,
        )
        with torch.no_grad():  # a deep stack starts near the identity
            self.attention.output.weight.mul_(_SMALL_BRANCH)
            last.weight.mul_(_SMALL_BRANCH)

    def forward(self, features: Tensor, positions: Tensor) -> Tensor:
        """Maps (B, channels, S) to the same shape; positions (S,)."""
        features = features + self.attention(self.attention_norm(features), positions, self.causal)
        return features + self.feed(self.feed_norm(features))

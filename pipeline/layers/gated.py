"""Gated units: channels that decide how much of the others passes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.dsp.complex_channels import scale_by
from pipeline.layers.phase_preserving import magnitude


class _Gate(nn.Module):
    """sigmoid(W a + b) of every position, with a learned real matrix W over the channels.

    Args:
        num_channels: Channels C in and out.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        bound = math.sqrt(3 / num_channels)
        self.weight = nn.Parameter(torch.empty(num_channels, num_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape, values between 0 and 1."""
        logits = functional.conv1d(features.flatten(2), self.weight.unsqueeze(-1)).view_as(features)
        return torch.sigmoid(logits + self.bias.view(-1, *(1,) * (features.dim() - 2)))


class GLU(nn.Module):
    """x sigmoid(W x + b): each real channel passes as far as a learned sum of all channels opens its gate.

    Args:
        num_channels: Real channels C.

    Source: Dauphin et al., Language Modeling with Gated Convolutional Networks, ICML 2017, equation 1.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.gate = _Gate(num_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape."""
        return features * self.gate(features).to(features.dtype)


class CGLU(nn.Module):
    """z sigmoid(W |z| + b): the gates of complex channels see magnitudes only, so that phases are kept.

    Args:
        num_channels: Complex channels C.

    Source: Dauphin et al., Language Modeling with Gated Convolutional Networks, ICML 2017, equation 1, with
        gates of the magnitudes.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.gate = _Gate(num_channels)

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape."""
        return scale_by(stacked, self.gate(magnitude(stacked)).to(stacked.dtype))

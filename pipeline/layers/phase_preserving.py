"""Non-linearities of complex channels that change magnitudes and keep phases."""

import math

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import magnitude_squared, scale_by
from pipeline.dsp.precision import at_least_float32

MODRELU_THRESHOLD = 1e-4
_SMALLEST_WIDTH = 1e-3


def magnitude(stacked: Tensor) -> Tensor:
    """|z| of (B, 2C, ...) as (B, C, ...), in float32 at least.

    It is held above a threshold, below which gradients of the root would grow without bound.
    """
    return magnitude_squared(at_least_float32(stacked)).clamp_min(MODRELU_THRESHOLD**2).sqrt()


def _per_channel(values: Tensor, stacked: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (stacked.dim() - 2))


class ModReLU(nn.Module):
    """relu(|z| + b) z / |z| with one learned b per channel: thresholds magnitudes, keeps phases.

    It starts with b = 0, the identity. The factor relu(1 + b / |z|) is taken with |z| held above a threshold,
    so that values and gradients are finite at z = 0; only magnitudes below the threshold are touched by that.

    Args:
        num_channels: Complex channels C.

    Source: Arjovsky, Shah, Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016, equation 8.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape."""
        bias = _per_channel(self.bias, stacked)
        return scale_by(stacked, torch.relu(1 + bias / magnitude(stacked)).to(stacked.dtype))


class FreqModReLU(nn.Module):
    """relu(|z| + b) z / |z| with one learned b for each channel and frequency bin; see `ModReLU`.

    Args:
        num_channels: Complex channels C.
        num_bins: Frequency bins F.

    Source: Arjovsky, Shah, Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016, equation 8.
    """

    def __init__(self, num_channels: int, num_bins: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels, num_bins, 1))

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, F, T) to the same shape."""
        return scale_by(stacked, torch.relu(1 + self.bias / magnitude(stacked)).to(stacked.dtype))


class PhaseGELU(nn.Module):
    """z Phi((|z| - mu) / sigma) with the normal distribution function Phi, learned mu and sigma per channel.

    It starts with mu = 0 and sigma = 1. sigma is the exponential of what is learned, plus 1e-3: it stays positive.

    Args:
        num_channels: Complex channels C.

    Source: Hendrycks, Gimpel, Gaussian Error Linear Units, 2016, section 2, of the magnitude.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(num_channels))
        self.log_width = nn.Parameter(torch.full((num_channels,), math.log(1 - _SMALLEST_WIDTH)))

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape."""
        width = _per_channel(self.log_width.exp() + _SMALLEST_WIDTH, stacked)
        place = (magnitude(stacked) - _per_channel(self.mean, stacked)) / width
        return scale_by(stacked, (0.5 * (1 + torch.erf(place / math.sqrt(2)))).to(stacked.dtype))


class AbsSiLU(nn.Module):
    """z sigmoid(|z|): the SiLU of the magnitude, with the phase kept.

    Args:
        num_channels: Complex channels C.

    Source: Elfwing, Uchibe, Doya, Sigmoid-Weighted Linear Units, 2017, equation 1, of the magnitude.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        del num_channels  # every complex activation is built from its channel count

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape."""
        return scale_by(stacked, torch.sigmoid(magnitude(stacked)).to(stacked.dtype))

"""Compression of spectral magnitudes before the encoder, phase kept, and its exact inverse.

Every map is a real gain that depends on |S| only. Magnitudes below a small threshold get the gain of the
threshold: the map is linear there, so that it stays invertible and its gradient at zero magnitude is finite.
The square root is only ever taken of a clamped |S|^2, because its derivative at 0 is infinite.
"""

import math
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from pipeline.dsp.complex_channels import magnitude_squared, scale_by
from pipeline.dsp.precision import at_least_float32

LOG_MAG_THRESHOLD = 1e-8


class Compression(nn.Module):
    """A gain on stacked spectrograms (B, 2C, F, T) and the gain that undoes it, both in float32 at least."""

    def gain(self, power: Tensor) -> Tensor:
        """|S'| / |S| as a function of |S|^2, each (B, C, F, T)."""
        raise NotImplementedError

    def inverse_gain(self, power: Tensor) -> Tensor:
        """|S| / |S'| as a function of |S'|^2, each (B, C, F, T)."""
        raise NotImplementedError

    def forward(self, stacked: Tensor) -> Tensor:
        """Linear to compressed (B, 2C, F, T)."""
        stacked = at_least_float32(stacked)
        return scale_by(stacked, self.gain(magnitude_squared(stacked)))

    def inverse(self, stacked: Tensor) -> Tensor:
        """Compressed to linear (B, 2C, F, T)."""
        stacked = at_least_float32(stacked)
        return scale_by(stacked, self.inverse_gain(magnitude_squared(stacked)))


class NoCompression(Compression):
    """S' = S."""

    def forward(self, stacked: Tensor) -> Tensor:
        """The same tensor."""
        return at_least_float32(stacked)

    def inverse(self, stacked: Tensor) -> Tensor:
        """The same tensor."""
        return at_least_float32(stacked)


class LogMag(Compression):
    """|S'| = log(1 + alpha |S|).

    Args:
        alpha: How early the logarithm bends; alpha |S| << 1 is nearly linear.
    """

    def __init__(self, alpha: PositiveFloat) -> None:
        super().__init__()
        self.alpha = alpha
        self.smallest = LOG_MAG_THRESHOLD
        self.smallest_compressed = math.log1p(alpha * self.smallest)

    def gain(self, power: Tensor) -> Tensor:
        """Evaluates log(1 + alpha |S|) / |S|."""
        magnitude = power.clamp_min(self.smallest**2).sqrt()
        return torch.log1p(self.alpha * magnitude) / magnitude

    def inverse_gain(self, power: Tensor) -> Tensor:
        """Evaluates (exp(|S'|) - 1) / (alpha |S'|)."""
        magnitude = power.clamp_min(self.smallest_compressed**2).sqrt()
        return torch.expm1(magnitude) / (self.alpha * magnitude)


class PowerNorm(Compression):
    """|S'| = beta |S|^alpha, linear below |S| = eps.

    Args:
        alpha: Exponent; 1 leaves magnitudes as they are.
        beta: Factor.
        eps: Magnitude below which the map is linear.
    """

    def __init__(
        self, alpha: Annotated[float, Field(gt=0, le=1)], beta: PositiveFloat, eps: PositiveFloat = 1e-8
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.eps = alpha, beta, eps

    def gain(self, power: Tensor) -> Tensor:
        """Evaluates beta |S|^(alpha - 1)."""
        return self.beta * power.clamp_min(self.eps**2).pow((self.alpha - 1) / 2)

    def inverse_gain(self, power: Tensor) -> Tensor:
        """Evaluates (|S'| / beta)^(1 / alpha) / |S'|, which is (|S'| / beta)^(1 / alpha - 1) / beta."""
        normalised = (power / self.beta**2).clamp_min(self.eps ** (2 * self.alpha))
        return normalised.pow((1 / self.alpha - 1) / 2) / self.beta

"""Periodic non-linearities."""

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import join, split
from pipeline.dsp.precision import at_least_float32

SMALLEST_ALPHA = 1e-9
STRIP = 2.0


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha with one learned alpha per real channel, which starts at 1.

    Args:
        num_channels: Real channels C.

    Source: Ziyin, Hartwig, Ueda, Neural Networks Fail to Learn Periodic Functions, NeurIPS 2020, equation 4.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape."""
        alpha = self.alpha.view(-1, *(1,) * (features.dim() - 2))
        wide = at_least_float32(features)
        return (wide + torch.sin(alpha * wide).square() / (alpha + SMALLEST_ALPHA)).to(features.dtype)


class CSnake(nn.Module):
    """z + sin^2(alpha z) / alpha with the complex sine and one learned real alpha per channel, at first 1.

    sin^2(alpha z) = (1 - cos(2 alpha z)) / 2 grows like exp(2 |alpha Im z|). Beyond the strip
    |2 alpha Im z| <= 2 the sine therefore keeps the value that it has at the strip's edge.

    Args:
        num_channels: Complex channels C.

    Source: Ziyin, Hartwig, Ueda, Neural Networks Fail to Learn Periodic Functions, NeurIPS 2020, equation 4,
        continued to complex numbers.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(num_channels))

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape."""
        alpha = self.alpha.view(-1, *(1,) * (stacked.dim() - 2))
        real, imag = split(at_least_float32(stacked))
        angle, height = 2 * alpha * real, (2 * alpha * imag).clamp(-STRIP, STRIP)
        scale = 0.5 / (alpha + SMALLEST_ALPHA)
        sine_real = (1 - torch.cos(angle) * torch.cosh(height)) * scale
        sine_imag = torch.sin(angle) * torch.sinh(height) * scale
        return join(real + sine_real, imag + sine_imag).to(stacked.dtype)

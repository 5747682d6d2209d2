"""Complex numbers as pairs of real channels: the one place where parts are stacked or split.

The order is [all real parts | all imaginary parts] along the channel axis, everywhere.
"""

import torch
from torch import Tensor

from pipeline.dsp.precision import at_least_float32


def stack(spectrogram: Tensor) -> Tensor:
    """Complex (B, C, ...) to real (B, 2C, ...)."""
    return join(spectrogram.real, spectrogram.imag)


def unstack(stacked: Tensor) -> Tensor:
    """Real (B, 2C, ...) to complex (B, C, ...); half precision becomes complex64, float64 complex128."""
    return torch.complex(*split(at_least_float32(stacked)))


def split(stacked: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Views of the real and the imaginary half of the channel axis."""
    assert stacked.shape[dim] % 2 == 0, f"{stacked.shape[dim]} channels are no pairs"
    real, imag = stacked.chunk(2, dim)
    return real, imag


def join(real: Tensor, imag: Tensor, dim: int = 1) -> Tensor:
    """The inverse of `split`."""
    return torch.cat((real, imag), dim)


def magnitude_squared(stacked: Tensor) -> Tensor:
    """Squared magnitudes: (B, 2C, ...) to (B, C, ...)."""
    real, imag = split(stacked)
    return real * real + imag * imag


def scale_by(stacked: Tensor, gain: Tensor) -> Tensor:
    """Multiplies both parts (B, 2C, ...) by a real gain that broadcasts to (B, C, ...); phases stay."""
    parts = stacked.unflatten(1, (2, -1)) * gain.unsqueeze(1)
    return parts.flatten(1, 2)

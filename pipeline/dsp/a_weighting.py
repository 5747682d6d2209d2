"""The A-weighting curve: how loud the ear takes a frequency to be."""

import torch
from torch import Tensor

# Poles in hertz, IEC 61672-1 annex E.
_F1, _F2, _F3, _F4 = 20.598997, 107.65265, 737.86223, 12194.217
_REFERENCE_HZ = 1000.0


def a_weighting(frequencies_hz: Tensor) -> Tensor:
    """Return `A(f) = R(f) / R(1000 Hz)`, a factor of magnitudes, 1 at 1 kHz and 0 at 0 Hz.

    `R(f) = f4^2 f^4 / ((f^2 + f1^2) sqrt((f^2 + f2^2) (f^2 + f3^2)) (f^2 + f4^2))`.

    Args:
        frequencies_hz: any shape, float64 for exactness, hertz.

    Returns:
        Factors of the same shape and dtype.

    Source:
        IEC 61672-1:2013, annex E, analytical expression of frequency weighting A.
    """
    return _response(frequencies_hz) / _response(frequencies_hz.new_tensor(_REFERENCE_HZ))


def bin_weights(sample_rate_hz: int, num_bins: int) -> Tensor:
    """Return A(f) at the bins of a one-sided spectrum: (F, 1), float32, to be multiplied with (..., F, T)."""
    frequencies = torch.linspace(0.0, sample_rate_hz / 2, num_bins, dtype=torch.float64)
    return a_weighting(frequencies).float().unsqueeze(-1)


def _response(frequencies_hz: Tensor) -> Tensor:
    squared = frequencies_hz.square()
    middle = ((squared + _F2**2) * (squared + _F3**2)).sqrt()
    return _F4**2 * squared.square() / ((squared + _F1**2) * middle * (squared + _F4**2))

"""Sample-rate conversion by a windowed sinc, exact for crops.

Output sample n lies at input position n * from_hz / to_hz and is a weighted sum of the input samples around
it. The weights depend on n alone, so a crop that brings its neighbours along gives the samples of the whole
file, bit for bit.
"""

from functools import lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

# 32 zero crossings to each side under a Kaiser window: flat to 84 % of the lower Nyquist frequency, about -80
# dB above it.
_ZERO_CROSSINGS = 32
_KAISER_BETA = 8.0
_ROLLOFF = 0.92


def resampled_length(num_frames: int, from_hz: int, to_hz: int) -> int:
    """Number of output samples of a whole file: those that lie before its end."""
    up, down = _ratio(from_hz, to_hz)
    return -(-num_frames * up // down)


def resample(waveform: Waveform, from_hz: int, to_hz: int) -> Waveform:
    """Converts a whole waveform, (C, S) float32, to (C, resampled_length(S)), with silence around it."""
    num_frames = waveform.shape[-1]
    return resample_span(waveform, 0, 0, resampled_length(num_frames, from_hz, to_hz), from_hz, to_hz)


def input_span(start: int, num_samples: int, from_hz: int, to_hz: int) -> tuple[int, int]:
    """Input samples, [first, end), on which the output samples [start, start + num_samples) depend.

    The span may begin before 0 and end after the file.
    """
    up, down = _ratio(from_hz, to_hz)
    half = _half_width(up, down)
    if half == 0:
        return start, start + num_samples
    return start * down // up - half + 1, (start + num_samples - 1) * down // up + half + 1


def resample_span(
    waveform: Waveform, first: int, start: int, num_samples: int, from_hz: int, to_hz: int
) -> Waveform:
    """Output samples [start, start + num_samples) from the part of the input that starts at sample `first`.

    Args:
        waveform: (C, S) float32, input samples [first, first + S); what lies outside counts as silence.
        first: Place of the first given sample in the input.
        start: Place of the first wanted sample in the output.
        num_samples: Number of output samples.
        from_hz: Sample rate of the input.
        to_hz: Sample rate of the output.

    Returns:
        (C, num_samples) float32.

    Source: J. O. Smith, Digital Audio Resampling (bandlimited interpolation).
    """
    needed_first, needed_end = input_span(start, num_samples, from_hz, to_hz)
    given = _slice_with_silence(waveform, needed_first - first, needed_end - first)
    up, down = _ratio(from_hz, to_hz)
    if up == down:
        return given
    weights = _weights(up, down)
    windows = np.lib.stride_tricks.sliding_window_view(given, weights.shape[1], axis=-1)
    out = np.empty((waveform.shape[0], num_samples), dtype=np.float32)
    origin = start * down // up
    for phase in range(min(up, num_samples)):
        at = (start + phase) * down
        same_phase = out[:, phase::up]
        # These outputs share their weights, and their windows lie `down` input samples apart.
        rows = windows[:, at // up - origin :: down][:, : same_phase.shape[1]]
        np.einsum("cmk,k->cm", rows, weights[at % up], out=same_phase)
    return out


def _ratio(from_hz: int, to_hz: int) -> tuple[int, int]:
    divisor = gcd(from_hz, to_hz)
    return to_hz // divisor, from_hz // divisor


def _half_width(up: int, down: int) -> int:
    return 0 if up == down else ceil(_ZERO_CROSSINGS * max(1.0, down / up) / _ROLLOFF)


@lru_cache(maxsize=16)
def _weights(up: int, down: int) -> Waveform:
    """Weights (up, 2 * half_width); row r serves outputs r / up of a sample after an input sample."""
    half = _half_width(up, down)
    cutoff = _ROLLOFF * min(1.0, up / down)
    offset = np.arange(1 - half, half + 1) - np.arange(up)[:, None] / up
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - (offset / half) ** 2))) / np.i0(_KAISER_BETA)
    return (cutoff * np.sinc(cutoff * offset) * window).astype(np.float32)


def _slice_with_silence(waveform: Waveform, start: int, end: int) -> Waveform:
    """`waveform[:, start:end]`, where samples outside the waveform are zero."""
    num_frames = waveform.shape[-1]
    if 0 <= start and end <= num_frames:
        return waveform[:, start:end]
    inside = waveform[:, max(0, min(start, num_frames)) : max(0, min(end, num_frames))]
    left = min(max(0, -start), end - start)
    return np.pad(inside, ((0, 0), (left, end - start - left - inside.shape[-1])))

"""Waveforms as streams of blocks, (C, any number of samples) float32 each, so that length costs no memory."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.data.resample import input_span, resample_span, resampled_length

Waveform = NDArray[np.float32]

_RESAMPLED_BLOCK = 1 << 17


class SlidingWindow:
    """Random access to a stream within a window that only moves on.

    Args:
        blocks: the stream; at least one block.
    """

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        self._blocks = iter(blocks)
        self._held = next(self._blocks)
        self._start = 0
        self.ended = False

    @property
    def end(self) -> int:
        """Samples read so far; the length of the stream once it has `ended`."""
        return self._start + self._held.shape[-1]

    def read(self, first: int, end: int) -> Waveform:
        """Return samples [first, end) as far as the stream goes, and forget those before `first`.

        Sets `ended` if the stream ends before `end`.
        """
        assert self._start <= first <= self.end
        pieces = [self._held[:, first - self._start :]]
        num_samples = pieces[0].shape[-1]
        while first + num_samples < end and not self.ended:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
            else:
                pieces.append(block)
                num_samples += block.shape[-1]
        self._held, self._start = np.concatenate(pieces, axis=-1), first
        return self._held[:, : end - first]


def resample_blocks(blocks: Iterable[Waveform], from_hz: int, to_hz: int) -> Iterator[Waveform]:
    """Convert the rate of a stream; the result equals converting the whole waveform at once."""
    if from_hz == to_hz:
        yield from blocks
        return
    window, at = SlidingWindow(blocks), 0
    while True:
        first, end = input_span(at, _RESAMPLED_BLOCK, from_hz, to_hz)
        given = window.read(max(0, first), end)
        num_samples = _RESAMPLED_BLOCK
        if window.ended:
            num_samples = min(num_samples, resampled_length(window.end, from_hz, to_hz) - at)
        if num_samples == 0:
            return
        yield resample_span(given, max(0, first), at, num_samples, from_hz, to_hz)
        at += num_samples


def cut_blocks(blocks: Iterable[Waveform], num_samples: int) -> Iterator[Waveform]:
    """Pass on the first `num_samples` samples of a stream, and take no block after them."""
    remaining = num_samples
    for block in blocks:
        yield block[:, :remaining]
        remaining -= block.shape[-1]
        if remaining <= 0:
            return

"""Short-time Fourier transform and its exact inverse, the sole owner of framing, window and scale."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.dsp.padding import reflect_pad, zero_pad
from pipeline.dsp.precision import at_least_float32
from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import ShapeError


class Stft(nn.Module):
    """Centred one-sided STFT with a periodic Hann window, scaled by 1 / sqrt(sum of the squared window).

    With this scale white noise of variance v has E|S|^2 = v in every inner bin, whatever the sizes. The
    window stays in float32 or float64 even where the module is cast to half precision.

    Args:
        n_fft: Transform length in samples, even.
        hop_length: Step between frames in samples, at most half the window.
        win_length: Window length in samples, at most `n_fft`; centred in the transform.

    Raises:
        ConfigError: The sizes have no well-conditioned inverse.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int, win_length: int) -> None:
        super().__init__()
        self.settings = StftSettings(n_fft, hop_length, win_length)
        self.register_buffer("window", self._build_window(torch.get_default_dtype()), persistent=False)

    @property
    def num_bins(self) -> int:
        """Frequency bins F."""
        return self.settings.num_bins

    @property
    def hop_length(self) -> int:
        """Step between frames in samples."""
        return self.settings.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Frames T of a waveform with `num_samples` samples: ceil(S / hop) + 1."""
        return self.settings.num_frames(num_samples)

    def forward(self, waveform: Tensor) -> Tensor:
        """Analyses a waveform.

        The end is filled with zeros to a whole hop, then both ends are mirrored by half a transform. Frames
        are views by `unfold`, whose backward is a gather; `torch.stft` gives the same values, but its
        backward adds into overlapping memory.

        Args:
            waveform: (B, C, S), at least one sample; half precision is upcast.

        Returns:
            Spectrogram (B, C, F, T), complex64, or complex128 for a float64 waveform.

        Raises:
            ShapeError: The waveform has no samples.
        """
        num_samples = waveform.shape[-1]
        if num_samples < 1:
            raise ShapeError(f"a waveform needs at least one sample, not the shape {tuple(waveform.shape)}")
        settings = self.settings
        waveform = at_least_float32(waveform)
        covered = settings.num_samples(settings.num_frames(num_samples))
        waveform = zero_pad(waveform, (0, covered - num_samples), -1)
        waveform = reflect_pad(waveform, (settings.n_fft // 2, settings.n_fft // 2), -1)
        frames = waveform.unfold(-1, settings.n_fft, settings.hop_length)
        return torch.fft.rfft(frames * self._window_for(waveform)).transpose(-1, -2)

    def inverse(self, spectrogram: Tensor, num_samples: int) -> Tensor:
        """Synthesises a waveform: overlap-add of windowed frames over the overlap-added squared window.

        Args:
            spectrogram: (B, C, F, T), complex.
            num_samples: Length S of the result, at most (T - 1) * hop.

        Returns:
            Waveform (B, C, S); exactly the analysed one for an unchanged spectrogram.

        Raises:
            ShapeError: The spectrogram has other bins than this STFT or too few frames for `num_samples`.
        """
        settings = self.settings
        num_bins, num_frames = spectrogram.shape[-2:]
        held = settings.num_samples(num_frames)
        if num_bins != settings.num_bins:
            raise ShapeError(f"{num_bins} bins given, but n_fft={settings.n_fft} has {settings.num_bins}")
        if num_samples > held:
            raise ShapeError(f"{num_frames} frames hold {held} samples, not {num_samples}")
        frames = torch.fft.irfft(spectrogram.transpose(-1, -2), n=settings.n_fft)
        window = self._window_for(frames)
        start = settings.n_fft // 2
        summed = _overlap_add(frames * window, settings.hop_length)
        envelope = _overlap_add((window * window).expand(num_frames, -1), settings.hop_length)
        return summed.narrow(-1, start, num_samples) / envelope.narrow(-1, start, num_samples)

    def _build_window(self, dtype: torch.dtype) -> Tensor:
        settings = self.settings
        window = torch.hann_window(settings.win_length, dtype=torch.float64)
        before = (settings.n_fft - settings.win_length) // 2
        window = zero_pad(window, (before, settings.n_fft - settings.win_length - before), -1)
        window = window / window.square().sum().sqrt()
        return window if dtype == torch.float64 else window.float()

    def _window_for(self, signal: Tensor) -> Tensor:
        if self.window.dtype == signal.dtype:
            return self.window
        return self._build_window(signal.dtype).to(signal.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Stft":
        """Moves the module; the window is built anew, since a cast to half precision would coarsen it."""
        super()._apply(fn, recurse)
        self.window = self._build_window(self.window.dtype).to(self.window.device)
        return self


def _overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Adds frames (..., T, N) at steps of one hop: (..., at least (T - 1) * hop + N).

    A frame is cut into hops; the r-th hops of all frames lie end to end, r hops late. So the sum needs only
    shifted additions, in an order that is the same on every device.
    """
    num_hops = -(-frames.shape[-1] // hop_length)
    frames = zero_pad(frames, (0, num_hops * hop_length - frames.shape[-1]), -1)
    pieces = frames.unflatten(-1, (num_hops, hop_length)).unbind(-2)
    total = zero_pad(pieces[0], (0, num_hops - 1), -2)
    for late, piece in enumerate(pieces[1:], start=1):
        total = total + zero_pad(piece, (late, num_hops - 1 - late), -2)
    return total.flatten(-2)

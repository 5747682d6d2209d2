"""Magnitudes as multi-resolution losses compare them."""

import torch
from torch import Tensor, nn

from pipeline.dsp.a_weighting import bin_weights
from pipeline.dsp.mel import MelFilterbank
from pipeline.dsp.stft import Stft
from pipeline.dsp.stft_settings import StftSettings


class Magnitudes(nn.Module):
    """STFT magnitudes of a waveform, A-weighted and summed to mel bands as asked: (B, C, S) to (B, C, F or M, T).

    Args:
        size: of the STFT.
        n_mels: mel bands M; None leaves the F bins.
        a_weighting: multiply the bins by A(f) before they are summed.
        sample_rate_hz: of the waveform; needed for mel bands and A-weighting.
    """

    weights: Tensor | None

    def __init__(
        self, size: StftSettings, n_mels: int | None, a_weighting: bool, sample_rate_hz: int | None
    ) -> None:
        super().__init__()
        self.stft = Stft(size.n_fft, size.hop_length, size.win_length)
        self.filterbank: MelFilterbank | None = None
        weights: Tensor | None = None
        if n_mels is not None or a_weighting:
            assert sample_rate_hz is not None, "mel bands and A-weighting depend on the sample rate"
            if n_mels is not None:
                self.filterbank = MelFilterbank(sample_rate_hz, size.n_fft, n_mels)
            if a_weighting:
                weights = bin_weights(sample_rate_hz, size.num_bins)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return real values, not negative."""
        # The gradient of complex abs() is 0 at 0, where that of a square root would be infinite.
        magnitude = torch.abs(self.stft(waveform))
        if self.weights is not None:
            magnitude = magnitude * self.weights.to(magnitude.dtype)
        return magnitude if self.filterbank is None else self.filterbank(magnitude)

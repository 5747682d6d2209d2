"""Mel filter bank."""

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from pipeline.dsp.precision import at_least_float32


class MelFilterbank(nn.Module):
    """Weighted sums of spectral magnitudes, with librosa's default scale and area normalisation (slaney).

    Args:
        sample_rate_hz: Sample rate of the analysed waveform.
        n_fft: Transform length in samples of the STFT whose magnitudes come in.
        n_mels: Number of mel bands M.
        f_min_hz: Lower edge of the first band.
        f_max_hz: Upper edge of the last band; half the sample rate if None.
    """

    filters: Tensor

    def __init__(
        self,
        sample_rate_hz: int,
        n_fft: int,
        n_mels: int,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
    ) -> None:
        super().__init__()
        f_max_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        filters = melscale_fbanks(
            n_fft // 2 + 1, f_min_hz, f_max_hz, n_mels, sample_rate_hz, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Sums bands: (..., F, T) to (..., M, T), never in half precision, which would lose quiet bands."""
        magnitude = at_least_float32(magnitude)
        with torch.autocast(magnitude.device.type, enabled=False):
            return torch.matmul(self.filters.to(magnitude.dtype), magnitude)

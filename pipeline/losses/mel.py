"""Losses on mel spectrograms."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from pipeline.dsp.mel import MelFilterbank
from pipeline.dsp.stft import Stft
from pipeline.errors import ConfigError
from pipeline.losses.base import Loss, reduce_example
from pipeline.losses.resolutions import mel_resolutions


class MultiScaleMel(Loss):
    """Distance of mel magnitudes, summed over several scales.

    One scale gives `log_weight * mean |log10 max(E, clamp_eps)^pow - log10 max(R, clamp_eps)^pow|
    + mag_weight * mean |E - R|` over channels, bands and frames; windows are as long as the FFT, hops a
    quarter of it. A term of weight 0 is not computed. The magnitudes are on the scale of `pipeline.dsp.stft`.

    Args:
        fft_sizes: FFT sizes in samples.
        n_mels: mel bands, one count per FFT size.
        log_weight: weight of the logarithmic magnitudes.
        mag_weight: weight of the linear magnitudes.
        clamp_eps: smallest mel magnitude told apart from silence by the logarithm.
        pow: exponent in the logarithm: 1 for magnitudes, 2 for energies.
        sample_rate_hz: of the waveforms; supplied by the program.

    Raises:
        ConfigError: lists of unequal length, sizes that make no STFT, more bands than bins, two zero weights.

    Source:
        Kumar et al.: High-Fidelity Audio Compression with Improved RVQGAN (2023); the default sizes are those
        of its multi-scale mel loss.
    """

    domain = "waveform"

    def __init__(
        self,
        fft_sizes: Sequence[PositiveInt] = (32, 64, 128, 256, 512, 1024, 2048),
        n_mels: Sequence[PositiveInt] = (5, 10, 20, 40, 80, 160, 320),
        log_weight: NonNegativeFloat = 1.0,
        mag_weight: NonNegativeFloat = 0.0,
        clamp_eps: PositiveFloat = 1e-5,
        pow: PositiveFloat = 1.0,
        *,
        sample_rate_hz: int,
    ) -> None:
        super().__init__()
        if log_weight == mag_weight == 0:
            raise ConfigError("log_weight and mag_weight are both 0; at least one must be positive")
        self.scales = nn.ModuleList(
            MelSpectrogram(Stft(size.n_fft, size.hop_length, size.win_length), bands, sample_rate_hz)
            for size, bands in zip(mel_resolutions(fft_sizes, n_mels), n_mels, strict=True)
        )
        self.log_weight = log_weight
        self.mag_weight = mag_weight
        self.clamp_eps = clamp_eps
        self.pow = pow

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S)."""
        return torch.stack([self._at_scale(scale, estimate, reference) for scale in self.scales]).sum(0)

    def _at_scale(self, scale: nn.Module, estimate: Tensor, reference: Tensor) -> Tensor:
        found, wanted = scale(estimate), scale(reference)
        value = estimate.new_zeros(estimate.shape[0])
        if self.log_weight:
            ratio = found.clamp(min=self.clamp_eps).log10() - wanted.clamp(min=self.clamp_eps).log10()
            value = value + self.log_weight * self.pow * reduce_example(ratio.abs(), "mean")
        if self.mag_weight:
            value = value + self.mag_weight * reduce_example((found - wanted).abs(), "mean")
        return value


class MelSpectrogram(nn.Module):
    """Mel magnitudes of a waveform: (B, C, S) to (B, C, M, T).

    Args:
        stft: gives the spectrogram.
        n_mels: mel bands M.
        sample_rate_hz: of the waveform.
    """

    def __init__(self, stft: Stft, n_mels: int, sample_rate_hz: int) -> None:
        super().__init__()
        self.stft = stft
        self.filterbank = MelFilterbank(sample_rate_hz, stft.settings.n_fft, n_mels)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return (B, C, M, T), real and not negative."""
        return self.filterbank(self.stft(waveform).abs())

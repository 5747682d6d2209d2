"""Losses on spectrograms: the model's own, and several resolutions of the waveform."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from pipeline.dsp.complex_channels import magnitude_squared
from pipeline.errors import ConfigError
from pipeline.losses.base import Loss, reduce_example
from pipeline.losses.magnitudes import Magnitudes
from pipeline.losses.resolutions import stft_resolutions


class StftMse(Loss):
    """Squared error of complex bins, `mean |estimate - reference|^2`; both parts of a bin add up.

    Args:
        reduction: `mean` over the complex bins of one example or their `sum`; the batch is always averaged.
    """

    domain = "spectrogram"

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two stacked spectrograms (B, 2C, F, T)."""
        return reduce_example(magnitude_squared(estimate - reference), self.reduction)


class MultiResolutionStft(Loss):
    """Distance of STFT magnitudes, averaged over several resolutions and over the audio channels.

    One resolution gives
    `w_sc * ||R - E||_F / ||R||_F + w_log_mag * mean |ln E - ln R| + w_lin_mag * mean |E - R|`,
    with the magnitudes E and R clamped from below at `eps`; this keeps the loss and its gradient finite on
    silence. A term of weight 0 is not computed. With `a_weighting` the bins are multiplied by A(f) first, with
    `n_mels` they are then summed to mel bands.

    Args:
        fft_sizes: FFT sizes in samples.
        hop_sizes: hops in samples, one per FFT size; a quarter of it if None.
        win_lengths: windows in samples, one per FFT size; the whole of it if None.
        w_sc: weight of the spectral convergence.
        w_log_mag: weight of the logarithmic magnitudes (natural logarithm).
        w_lin_mag: weight of the linear magnitudes.
        eps: smallest magnitude told apart from silence, on the scale of `pipeline.dsp.stft`, where white
            noise of variance v has magnitudes around sqrt(v).
        n_mels: mel bands, one count per FFT size; the bins themselves if None.
        a_weighting: weight the bins as the ear does, see `pipeline.dsp.a_weighting`.
        sample_rate_hz: of the waveforms; supplied by the program.

    Raises:
        ConfigError: lists of unequal length, sizes that make no STFT, more bands than bins, three zero weights.

    Source:
        Yamamoto, Song, Kim: Parallel WaveGAN (2020), multi-resolution STFT auxiliary loss; Arik, Jun, Diamos:
        Fast spectrogram inversion using multi-head convolutional neural networks (2018), loss functions; mel and
        A-weighting Steinmetz, Reiss: auraloss, audio focused loss functions in PyTorch (2020).
    """

    domain = "waveform"

    def __init__(
        self,
        fft_sizes: Sequence[PositiveInt] = (512, 1024, 2048),
        hop_sizes: Sequence[PositiveInt] | None = None,
        win_lengths: Sequence[PositiveInt] | None = None,
        w_sc: NonNegativeFloat = 1.0,
        w_log_mag: NonNegativeFloat = 1.0,
        w_lin_mag: NonNegativeFloat = 0.0,
        eps: PositiveFloat = 1e-5,
        n_mels: Sequence[PositiveInt] | None = None,
        a_weighting: bool = False,
        *,
        sample_rate_hz: int | None = None,
    ) -> None:
        super().__init__()
        if w_sc == w_log_mag == w_lin_mag == 0:
            raise ConfigError("w_sc, w_log_mag and w_lin_mag are all 0; at least one must be positive")
        sizes = stft_resolutions(fft_sizes, hop_sizes, win_lengths, n_mels)
        bands = [None] * len(sizes) if n_mels is None else n_mels
        self.scales = nn.ModuleList(
            Magnitudes(size, count, a_weighting, sample_rate_hz)
            for size, count in zip(sizes, bands, strict=True)
        )
        self.w_sc = w_sc
        self.w_log_mag = w_log_mag
        self.w_lin_mag = w_lin_mag
        self.eps = eps

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S)."""
        values = [self._at_resolution(scale, estimate, reference) for scale in self.scales]
        return torch.stack(values).mean(0)

    def _at_resolution(self, scale: nn.Module, estimate: Tensor, reference: Tensor) -> Tensor:
        # not one STFT of both: the gradient would go back through the reference's half, too (44 % more memory written)
        found = scale(estimate).clamp(min=self.eps)
        wanted = scale(reference).clamp(min=self.eps)
        value = estimate.new_zeros(estimate.shape[0])
        if self.w_sc:
            value = value + self.w_sc * spectral_convergence(found, wanted).mean(1)
        if self.w_log_mag:
            value = value + self.w_log_mag * reduce_example((found.log() - wanted.log()).abs(), "mean")
        if self.w_lin_mag:
            value = value + self.w_lin_mag * reduce_example((found - wanted).abs(), "mean")
        return value


def spectral_convergence(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return `||R - E||_F / ||R||_F` of positive magnitudes (B, C, F, T), one value per channel: (B, C)."""
    distance = torch.linalg.vector_norm(reference - estimate, dim=(-2, -1))
    return distance / torch.linalg.vector_norm(reference, dim=(-2, -1))

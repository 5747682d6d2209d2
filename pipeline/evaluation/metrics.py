"""Metrics on waveforms, and their average over a data set and over processes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torchmetrics import Metric

from pipeline.config.registry import load
from pipeline.dsp.precision import at_least_float32
from pipeline.dsp.stft import Stft
from pipeline.errors import ConfigError, ShapeError
from pipeline.evaluation import METRICS
from pipeline.evaluation.plan import ROOT, check_spectral_metric
from pipeline.losses.base import reduce_example
from pipeline.losses.mel import MelSpectrogram
from pipeline.losses.spectral import MultiResolutionStft

SILENT_POWER = 1e-9  # mean square of a reference that counts as silence: -90 dB of full scale, 16-bit dither
SMALLEST_SHARE = 1e-10  # keeps SI-SDR within -100 to 100 dB
MAGNITUDE_FLOOR = 1e-5  # of spectra and mel spectra under a logarithm


class WaveformMetric(nn.Module):
    """A metric with one value per example, so that averages need no equal batches."""

    takes_sample_rate: ClassVar[bool] = False

    def forward(self, estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B,) values of two waveforms (B, C, S) and the (B,) booleans of those that count."""
        return self.per_example(estimate, reference), self.counts(reference)

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S) of float32 or float64."""
        raise NotImplementedError

    def counts(self, reference: Tensor) -> Tensor:
        """Return (B,) booleans: which examples the metric is defined for."""
        return torch.ones(reference.shape[0], dtype=torch.bool, device=reference.device)


class SiSdr(WaveformMetric):
    """Scale-invariant signal-to-distortion ratio in dB, per channel; higher is better.

    With a = <e, r> / <r, r>, it is 10 log10(||a r||^2 / ||e - a r||^2), kept within -100 to 100 dB; a silent
    estimate has -100 dB. Channels with a silent reference are left out, and with them examples that have no
    other channel.

    Args:
        zero_mean: subtract each channel's mean first.
        reduction: `mean` or `sum` over the channels of an example; examples are always averaged.

    Source:
        Le Roux, Wisdom, Erdogan, Hershey: SDR - half-baked or well done? (2019), equation 3.
    """

    def __init__(self, zero_mean: bool = True, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.zero_mean = zero_mean
        self.reduction = reduction

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values in dB from two waveforms (B, C, S); 0 for a silent reference."""
        estimate, reference = self._centred(estimate), self._centred(reference)
        tiny = torch.finfo(estimate.dtype).tiny
        reference_energy = reference.square().sum(-1).clamp(min=tiny)
        scale = (estimate * reference).sum(-1) / reference_energy
        target = scale.square() * reference_energy
        noise = (estimate - scale.unsqueeze(-1) * reference).square().sum(-1) + tiny
        shares = torch.stack((target, noise)) / (target + noise)
        decibels = 10 * shares.clamp(min=SMALLEST_SHARE).log10()
        sounding = self._sounding(reference)
        per_channel = torch.where(sounding, decibels[0] - decibels[1], 0.0)
        num_channels = sounding.sum(-1).clamp(min=1)
        return per_channel.sum(-1) / (num_channels if self.reduction == "mean" else 1)

    def counts(self, reference: Tensor) -> Tensor:
        """Return (B,) booleans: whether any channel of the reference (B, C, S) sounds."""
        return self._sounding(self._centred(reference)).any(-1)

    def _centred(self, waveform: Tensor) -> Tensor:
        return waveform - waveform.mean(-1, keepdim=True) if self.zero_mean else waveform

    def _sounding(self, reference: Tensor) -> Tensor:
        return reference.square().mean(-1) > SILENT_POWER


class StftDistance(WaveformMetric):
    """Spectral convergence plus `mean |ln E - ln R|` of STFT magnitudes; lower is better.

    Args:
        fft_size: FFT size in samples.
        hop_size: hop in samples.
        win_length: window in samples.
        sample_rate: of the waveforms, in Hz; may be left out, and must be the data's if given.
        sample_rate_hz: of the data; supplied by the program.

    Raises:
        ConfigError: the sizes make no STFT, or the sample rates differ.
    """

    takes_sample_rate = True

    def __init__(
        self,
        fft_size: PositiveInt,
        hop_size: PositiveInt,
        win_length: PositiveInt,
        sample_rate: PositiveInt | None = None,
        *,
        sample_rate_hz: int,
    ) -> None:
        super().__init__()
        sizes = {"fft_size": fft_size, "hop_size": hop_size, "win_length": win_length}
        check_spectral_metric({**sizes, "sample_rate": sample_rate}, sample_rate_hz)
        self.distance = MultiResolutionStft(
            [fft_size], [hop_size], [win_length], w_sc=1.0, w_log_mag=1.0, w_lin_mag=0.0, eps=MAGNITUDE_FLOOR
        )

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S)."""
        return self.distance.per_example(estimate, reference)


class MelDistance(WaveformMetric):
    """`mean |log10 E - log10 R|` of mel magnitudes over channels, bands and frames; lower is better.

    Args:
        fft_size: FFT size in samples.
        hop_size: hop in samples.
        win_length: window in samples.
        n_mels: mel bands.
        sample_rate: of the waveforms, in Hz; may be left out, and must be the data's if given.
        sample_rate_hz: of the data; supplied by the program.

    Raises:
        ConfigError: the sizes make no STFT, more bands than bins, or the sample rates differ.
    """

    takes_sample_rate = True

    def __init__(
        self,
        fft_size: PositiveInt,
        hop_size: PositiveInt,
        win_length: PositiveInt,
        n_mels: PositiveInt,
        sample_rate: PositiveInt | None = None,
        *,
        sample_rate_hz: int,
    ) -> None:
        super().__init__()
        sizes = {"fft_size": fft_size, "hop_size": hop_size, "win_length": win_length, "n_mels": n_mels}
        check_spectral_metric({**sizes, "sample_rate": sample_rate}, sample_rate_hz)
        self.mel = MelSpectrogram(Stft(fft_size, hop_size, win_length), n_mels, sample_rate_hz)

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S)."""
        found, wanted = (self.mel(x).clamp(min=MAGNITUDE_FLOOR).log10() for x in (estimate, reference))
        return reduce_example((found - wanted).abs(), "mean")


class MetricReport(NamedTuple):
    """Averages over a data set.

    Attributes:
        values: metric name -> mean over the examples it is defined for, scalar; NaN where there is none.
        left_out: metric name -> number of examples left out, scalar.
    """

    values: dict[str, Tensor]
    left_out: dict[str, Tensor]


class MetricSet(Metric):
    """Averages metrics over examples, whatever the batch sizes and however processes share the examples.

    Sums and counts are kept per process and added up in `compute`, which every process must call; `update`
    communicates nothing. Not torchmetrics' MeanMetric: 1.9.0 ignores weights when its check for NaN,
    which waits for the device at each update, is off.

    Args:
        metrics: name -> metric.
    """

    full_state_update = False
    totals: Tensor
    num_examples: Tensor
    num_left_out: Tensor

    def __init__(self, metrics: Mapping[str, WaveformMetric]) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict(metrics)
        for state in ("totals", "num_examples", "num_left_out"):
            zeros = torch.zeros(len(metrics), dtype=torch.float64)
            self.add_state(state, default=zeros, dist_reduce_fx="sum")

    def update(self, estimate: Tensor, reference: Tensor) -> None:
        """Add a batch.

        Args:
            estimate: waveform (B, C, S).
            reference: what it should be, same shape.

        Raises:
            ShapeError: the shapes differ or are no (B, C, S).
        """
        if estimate.shape != reference.shape or estimate.ndim != 3:
            shapes = f"estimate {tuple(estimate.shape)}, reference {tuple(reference.shape)}"
            raise ShapeError(f"metrics take two waveforms (B, C, S) of equal shape, got {shapes}")
        estimate, reference = at_least_float32(estimate), at_least_float32(reference)
        with torch.autocast(device_type=estimate.device.type, enabled=False):
            for index, metric in enumerate(self.metrics.values()):
                values, counted = metric(estimate, reference)
                values = torch.where(counted, values, 0.0)
                self.totals[index] += values.sum(dtype=torch.float64)
                self.num_examples[index] += counted.sum()
                self.num_left_out[index] += (~counted).sum()

    def compute(self) -> MetricReport:
        """Return the averages over all processes."""
        means = self.totals / self.num_examples
        values = dict(zip(self.metrics, means.unbind(), strict=True))
        return MetricReport(values, dict(zip(self.metrics, self.num_left_out.unbind(), strict=True)))


def build_metrics(
    plan: Mapping[str, Mapping[str, Any]], *, sample_rate_hz: int, where: str = ROOT
) -> MetricSet:
    """Build the metrics of a plan.

    Args:
        plan: from `plan_metrics`.
        sample_rate_hz: of the data.
        where: full configuration path of the metrics, for messages.

    Raises:
        ConfigError: a constructor refused a value.
    """
    metrics = {}
    for name, config in plan.items():
        metric_class = load(METRICS[name])
        runtime = {"sample_rate_hz": sample_rate_hz} if metric_class.takes_sample_rate else {}
        try:
            metrics[name] = metric_class(**config, **runtime)
        except ConfigError as error:
            raise ConfigError(f"{where}.{name}.{error}") from None
    return MetricSet(metrics)

"""Writes what the model does to a few validation segments, to listen to and to look at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import soundfile
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.data.dataset import Batch
from pipeline.models.autoencoder import AutoencoderOutput
from pipeline.training.loggers import log_audio, log_picture
from pipeline.training.module import AutoencoderModule

_FLOOR_DB = -80.0


class ValidationDemos(pl.Callback):
    """Write reference and reconstruction as WAV files and a spectrogram picture after each validation.

    Files: `media/step-<step>/<segment>-{reference,reconstruction}.wav` and `<segment>-spectrogram.png`.

    Args:
        directory: the run's media folder.
        sample_rate_hz: rate of the segments.
        num_demos: how many segments of the first validation batch.
    """

    def __init__(self, directory: Path, sample_rate_hz: int, num_demos: int) -> None:
        self._directory = directory
        self._sample_rate_hz = sample_rate_hz
        self._num_demos = num_demos
        self._segments: list[tuple[Tensor, Tensor]] = []  # (estimate, reference), (C, S) each

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first segments of the first batch."""
        if batch_idx == 0 and trainer.is_global_zero and not trainer.sanity_checking:
            assert isinstance(outputs, AutoencoderOutput)
            pairs = zip(outputs.waveform, outputs.reference_waveform, strict=True)
            self._segments = [(estimate, reference) for estimate, reference in pairs][: self._num_demos]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the kept segments."""
        assert isinstance(pl_module, AutoencoderModule)
        folder = self._directory / f"step-{trainer.global_step:08d}"
        for number, (estimate, reference) in enumerate(self._segments):
            folder.mkdir(parents=True, exist_ok=True)
            for name, waveform in (("reference", reference), ("reconstruction", estimate)):
                samples = waveform.float().cpu().numpy().T  # (S, C)
                soundfile.write(
                    folder / f"{number}-{name}.wav", samples, self._sample_rate_hz, subtype="FLOAT"
                )
                log_audio(
                    trainer.loggers,
                    f"demo/{number}-{name}",
                    samples,
                    self._sample_rate_hz,
                    trainer.global_step,
                )
            spectra = [
                pl_module.autoencoder.stft(waveform[None])[0, 0].cpu() for waveform in (reference, estimate)
            ]
            picture = folder / f"{number}-spectrogram.png"
            draw_comparison(spectra[0], spectra[1], self._sample_rate_hz, picture)
            log_picture(trainer.loggers, f"demo/{number}-spectrogram", picture, trainer.global_step)
        self._segments = []


def draw_comparison(reference: Tensor, estimate: Tensor, sample_rate_hz: int, path: Path) -> None:
    """Draw reference, reconstruction and phase error of one channel.

    Args:
        reference: (F, T) complex.
        estimate: (F, T) complex.
        sample_rate_hz: for the frequency axis.
        path: PNG file to write.
    """
    peak = reference.abs().max().clamp(min=1e-8)
    levels = [
        20 * torch.log10((spectrum.abs() / peak).clamp(min=10 ** (_FLOOR_DB / 20)))
        for spectrum in (reference, estimate)
    ]
    error = torch.angle(estimate * reference.conj())
    error = torch.where(levels[0] > _FLOOR_DB / 2, error, torch.nan)  # the phase of silence says nothing
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = [("reference", levels[0]), ("reconstruction", levels[1]), ("phase error", error)]
    for axis, (title, values) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        is_phase = title == "phase error"
        image = axis.imshow(
            values.numpy().astype(np.float32),
            origin="lower",
            aspect="auto",
            cmap="twilight" if is_phase else "magma",
            vmin=-np.pi if is_phase else _FLOOR_DB,
            vmax=np.pi if is_phase else 0.0,
            extent=(0, values.shape[1], 0, sample_rate_hz / 2000),
        )
        axis.set(title=title, xlabel="frame")
        figure.colorbar(image, ax=axis, label="rad" if is_phase else "dB")
    figure.axes[0].set_ylabel("kHz")
    figure.savefig(path, dpi=100)

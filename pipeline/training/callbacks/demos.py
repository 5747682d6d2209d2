"""Writes what the model does to a few seconds of held-out audio, to listen to and to look at."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import soundfile
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.data.datamodule import AudioDataModule
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.training.loggers import log_audio, log_picture
from pipeline.training.logs.base import disk_errors
from pipeline.training.module import AutoencoderModule

_FLOOR_DB = -80.0


class ValidationDemos(pl.Callback):
    """Reconstruct a few seconds of held-out audio after each validation.

    Files: `media/step-<step>/<number>-{reference,reconstruction}.wav` and `<number>-spectrogram.png`.

    Args:
        directory: the run's media folder.
        sample_rate_hz: rate of the audio.
        num_demos: how many pieces of audio.
        seconds: length of each.
    """

    def __init__(self, directory: Path, sample_rate_hz: int, num_demos: int, seconds: float) -> None:
        self._directory = directory
        self._sample_rate_hz = sample_rate_hz
        self._num_demos = num_demos
        self._seconds = seconds
        self._references: list[Tensor] | None = None  # (C, S) each, read at the first demonstration

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the demonstrations; the untrained model has none.

        Raises:
            TrainingError: a file could not be written.
        """
        assert isinstance(pl_module, AutoencoderModule)
        if trainer.sanity_checking or not trainer.is_global_zero or not self._num_demos:
            return
        if self._references is None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            assert isinstance(data, AudioDataModule)
            self._references = data.demo_segments(self._num_demos, self._seconds)
        folder = self._directory / f"step-{trainer.global_step:08d}"
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        autoencoder = pl_module.evaluated
        was_training = autoencoder.training
        autoencoder.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for number, reference in enumerate(self._references):
                waveform = reference[None].to(next(autoencoder.parameters()))
                self._write(trainer, folder, number, autoencoder, autoencoder(waveform).waveform, waveform)
        autoencoder.train(was_training)

    def _write(
        self,
        trainer: pl.Trainer,
        folder: Path,
        number: int,
        autoencoder: SpectrogramAutoencoder,
        estimate: Tensor,
        reference: Tensor,
    ) -> None:
        """Write one demonstration; both waveforms are (1, C, S)."""
        step, rate = trainer.global_step, self._sample_rate_hz
        for name, waveform in (("reference", reference), ("reconstruction", estimate)):
            samples = waveform[0].float().cpu().numpy().T  # (S, C)
            path = folder / f"{number}-{name}.wav"
            write_sound(path, samples, rate)
            log_audio(trainer.loggers, f"demo/{number}-{name}", path, samples, rate, step)
        picture = folder / f"{number}-spectrogram.png"
        spectra = [autoencoder.stft(waveform)[0, 0].cpu() for waveform in (reference, estimate)]
        draw_comparison(spectra[0], spectra[1], rate, picture)
        log_picture(trainer.loggers, f"demo/{number}-spectrogram", picture, step)


def write_sound(path: Path, samples: np.ndarray, sample_rate_hz: int) -> None:
    """Write a WAV file of floats.

    Args:
        path: the file.
        samples: (S, C).
        sample_rate_hz: rate of the audio.

    Raises:
        TrainingError: it could not be written.
    """
    content = BytesIO()  # libsndfile itself does not say why a file cannot be written
    soundfile.write(content, samples, sample_rate_hz, subtype="FLOAT", format="WAV")
    with disk_errors(path):
        path.write_bytes(content.getbuffer())


def draw_comparison(reference: Tensor, estimate: Tensor, sample_rate_hz: int, path: Path) -> None:
    """Draw reference, reconstruction and phase error of one channel.

    Args:
        reference: (F, T) complex.
        estimate: (F, T) complex.
        sample_rate_hz: for the frequency axis.
        path: PNG file to write.

    Raises:
        TrainingError: it could not be written.
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
    with disk_errors(path):
        figure.savefig(path, dpi=100)

"""A trained autoencoder as a tool: waveforms to latents and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import CheckpointError, ConfigError, ShapeError
from pipeline.inference.locate import Which, find_checkpoint
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.models.build import DESCRIPTION_VERSION, build_autoencoder
from pipeline.training.checkpoint import autoencoder_weights, read


class AudioCodec:
    """Encodes and decodes waveforms at the model's rate and channel count, in float32 and in evaluation mode.

    Args:
        autoencoder: the trained model; it is moved to `device` and set to evaluation mode.
        sample_rate_hz: rate of the audio that it was trained on.
        channels: audio channels C that it takes.
        device: where it runs.
    """

    def __init__(
        self,
        autoencoder: SpectrogramAutoencoder,
        sample_rate_hz: int,
        channels: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.autoencoder = autoencoder.to(self.device).eval()
        self.sample_rate_hz, self.channels = sample_rate_hz, channels

    @classmethod
    def load(
        cls, run: Path | str, device: torch.device | str = "cpu", which: Which | None = None
    ) -> "AudioCodec":
        """Load the model of a run; its checkpoint holds all that is needed.

        Args:
            run: a run directory or a checkpoint file, see `find_checkpoint`.
            device: where the model runs.
            which: "best" or "last" checkpoint of a run directory; None prefers the best.

        Raises:
            CheckpointError: there is no checkpoint, or it is damaged or of another version of this project.
        """
        path = find_checkpoint(Path(run), which)
        checkpoint = read(path, weights_only=True)
        description = checkpoint.get("inference", {})
        version = description.get("version", "none")
        if version != DESCRIPTION_VERSION:
            raise CheckpointError(
                f"{path}: this program reads model descriptions of version {DESCRIPTION_VERSION}; found: {version}"
            )
        try:
            autoencoder = build_autoencoder(description)
            autoencoder.load_state_dict(autoencoder_weights(checkpoint))
        except (ConfigError, RuntimeError) as error:
            raise CheckpointError(f"{path}: does not fit this version's models: {error}") from None
        return cls(autoencoder, description["sample_rate_hz"], description["channels"], device)

    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform (B, C, S), full scale 1.0, to latents (B, D', L); a VAE gives their mean.

        Raises:
            ShapeError: another channel count than the model's, or no samples.
        """
        if waveform.dim() != 3 or waveform.shape[1] != self.channels:
            raise ShapeError(
                f"the model takes waveforms (batch, {self.channels}, samples), not {tuple(waveform.shape)}"
            )
        with _precise_inference():
            return self.autoencoder.encode(waveform.to(self.device, torch.float32))

    def decode(self, latents: Tensor, num_samples: int) -> Tensor:
        """Latents (B, D', L) to a waveform (B, C, num_samples).

        Raises:
            ShapeError: there are too few latent frames for `num_samples`.
        """
        with _precise_inference():
            return self.autoencoder.decode(latents.to(self.device, torch.float32), num_samples)

    def reconstruct(self, waveform: Tensor) -> Tensor:
        """Waveform (B, C, S) to its reconstruction (B, C, S), in one piece; see `chunked` for long audio.

        Raises:
            ShapeError: as `encode`.
        """
        return self.decode(self.encode(waveform), waveform.shape[-1])


@contextmanager
def _precise_inference() -> Iterator[None]:
    """No gradients, repeatable kernels, and no TF32: its 10-bit products would cost -60 dB and show as seams."""
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield

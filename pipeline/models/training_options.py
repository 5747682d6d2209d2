"""What training does to an autoencoder that is no part of its description. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingOptions:
    """Options of `model.autoencoder`; a checkpoint's description works without them.

    Attributes:
        chunk_frames: spectrogram frames that encoder and decoder take at once, None for all; see `pieces`.
        latent_mask_ratio: share of latent values that training sets to 0; see `latent_mask`.
    """

    chunk_frames: int | None = None
    latent_mask_ratio: float = 0.0

"""Masking of latents in training."""

import torch
from torch import Tensor

from pipeline.models.bottleneck.base import Noise


def mask_latents(latents: Tensor, ratio: float, uniform: Noise, complex_valued: bool) -> Tensor:
    """Set each latent value to 0 with probability `ratio`; a complex one with both its parts.

    What is kept is not scaled up: evaluation, which masks nothing, sees latents of the same level.

    Args:
        latents: (B, D', L), stacked complex channels if `complex_valued`.
        ratio: at least 0, below 1.
        uniform: maps a shape (B, ...) to values in [0, 1), so that training can fix those of each sample.
        complex_valued: whether channels are pairs.

    Returns:
        (B, D', L).

    Source:
        Evans et al.: stable-audio-tools (2023), latent mask ratio of the autoencoder's training wrapper.
    """
    num_channels = latents.shape[1] // (2 if complex_valued else 1)
    kept = uniform(torch.Size((latents.shape[0], num_channels, latents.shape[2]))) >= ratio
    kept = torch.cat((kept, kept), 1) if complex_valued else kept
    return latents * kept.to(latents)

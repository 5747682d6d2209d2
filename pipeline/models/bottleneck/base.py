"""The contract of a bottleneck."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.models.geometry import BottleneckTraits, bottleneck_dimension

Noise = Callable[[torch.Size], Tensor]


class Bottleneck(nn.Module):
    """Maps latents (B, D, L) to (B, D', L) and reports statistics that a loss may use.

    Args:
        dimension: The encoder's latent dimension, in complex channels if `complex_valued`.
        complex_valued: Whether latents are stacked complex channels.

    Raises:
        ConfigError: The dimension cannot be divided as this bottleneck needs it.
    """

    traits: ClassVar[BottleneckTraits]

    def __init__(self, *, dimension: int, complex_valued: bool) -> None:
        super().__init__()
        self.dimension = bottleneck_dimension(type(self).__name__, dimension)
        self.complex_valued = complex_valued

    @property
    def loss_keys(self) -> tuple[str, ...]:
        """The keys of `loss_info`."""
        return self.traits.loss_keys

    @property
    def latent_channels(self) -> int:
        """Real channels D' of the latents that leave."""
        return self.dimension * (2 if self.complex_valued else 1)

    def forward(self, latents: Tensor, noise: Noise | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Passes latents on.

        Args:
            latents: (B, D, L).
            noise: Maps a shape to standard normal values, so that training can fix the noise of each sample;
                None draws from torch's own generator.

        Returns:
            Latents (B, D', L), and `loss_info`: a scalar for each of `loss_keys`.
        """
        raise NotImplementedError

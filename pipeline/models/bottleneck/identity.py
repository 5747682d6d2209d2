"""No bottleneck."""

from torch import Tensor

from pipeline.models.bottleneck.base import Bottleneck, Noise
from pipeline.models.geometry import BOTTLENECK_TRAITS


class IdentityBottleneck(Bottleneck):
    """Latents pass as they are; `loss_info` is empty."""

    traits = BOTTLENECK_TRAITS["IdentityBottleneck"]

    def __init__(self, *, dimension: int, complex_valued: bool) -> None:
        super().__init__(dimension=dimension, complex_valued=complex_valued)

    def forward(self, latents: Tensor, noise: Noise | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the latents (B, D, L) and no statistics."""
        return latents, {}

"""Losses that another part of the model has computed already."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn


class ValueLoss(nn.Module):
    """Takes a value from the bottleneck's `loss_info`, such as the KL term of a VAE.

    Args:
        key: name of the value; the program takes it from the name in `loss_config.bottleneck`.
    """

    domain: ClassVar[Literal["value"]] = "value"

    def __init__(self, *, key: str) -> None:
        super().__init__()
        self.key = key

    def forward(self, loss_info: Mapping[str, Tensor]) -> Tensor:
        """Return `loss_info[key]`, a scalar that is a mean over the batch."""
        value = loss_info[self.key]
        assert value.ndim == 0, f"loss_info[{self.key!r}] has shape {tuple(value.shape)}, not ()"
        return value

"""Losses on samples."""

from typing import Literal

from torch import Tensor

from pipeline.losses.base import Loss, reduce_example


class L1(Loss):
    """Absolute difference of waveforms, `mean |estimate - reference|` over channels and samples.

    Args:
        reduction: `mean` or `sum` over one example; the batch is always averaged.
    """

    domain = "waveform"

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S)."""
        return reduce_example((estimate - reference).abs(), self.reduction)


class L2(Loss):
    """Squared difference of waveforms, `mean (estimate - reference)^2` over channels and samples.

    Args:
        reduction: `mean` or `sum` over one example; the batch is always averaged.
    """

    domain = "waveform"

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two waveforms (B, C, S)."""
        return reduce_example((estimate - reference).square(), self.reduction)

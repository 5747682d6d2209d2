"""The contract of every loss on a pair of tensors."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.dsp.precision import at_least_float32
from pipeline.errors import ShapeError

Reduction = Literal["mean", "sum"]


class Loss(nn.Module):
    """A loss on `(estimate, reference)`: one value per example, then the mean over the batch.

    The batch mean is taken here and nowhere else, so that the mean of two half batches is the whole batch's
    value, whatever a loss does inside one example; data-parallel training depends on it.
    """

    domain: ClassVar[Literal["spectrogram", "waveform"]]

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            estimate: waveform (B, C, S), or stacked spectrogram (B, 2C, F, T), by `domain`; any real dtype.
            reference: what `estimate` should be, same shape.

        Returns:
            Scalar; float64 for float64 inputs, float32 for all others, inside autocast too.

        Raises:
            ShapeError: the shapes differ or do not suit the domain.
        """
        self._check_shapes(estimate, reference)
        with torch.autocast(device_type=estimate.device.type, enabled=False):
            return self.per_example(at_least_float32(estimate), at_least_float32(reference)).mean()

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return one value per example, (B,); the inputs are float32 or float64 and of equal shape."""
        raise NotImplementedError

    def _check_shapes(self, estimate: Tensor, reference: Tensor) -> None:
        name = type(self).__name__
        shapes = f"estimate {tuple(estimate.shape)}, reference {tuple(reference.shape)}"
        if estimate.shape != reference.shape:
            raise ShapeError(f"{name}: the shapes differ: {shapes}")
        if self.domain == "waveform" and estimate.ndim != 3:
            raise ShapeError(f"{name}: takes waveforms (B, C, S), got {shapes}")
        if self.domain == "spectrogram" and (estimate.ndim != 4 or estimate.shape[1] % 2 == 1):
            raise ShapeError(f"{name}: takes stacked spectrograms (B, 2C, F, T), got {shapes}")


def reduce_example(values: Tensor, reduction: Reduction) -> Tensor:
    """Reduce all axes but the first: (B, ...) to (B,)."""
    flat = values.flatten(1)
    return flat.mean(1) if reduction == "mean" else flat.sum(1)

"""Making an axis fit a stride, and undoing it."""

from torch import Tensor

from pipeline.dsp.padding import zero_pad


def pad_to_multiple(tensor: Tensor, multiple: int, dim: int) -> Tensor:
    """Appends zeros so that the axis length becomes the next multiple; no copy when it already is one."""
    return zero_pad(tensor, (0, -tensor.shape[dim] % multiple), dim)


def trim(tensor: Tensor, length: int, dim: int) -> Tensor:
    """The first `length` elements of an axis, as a view."""
    assert length <= tensor.shape[dim], f"cannot trim {tensor.shape[dim]} to {length}"
    return tensor.narrow(dim, 0, length)

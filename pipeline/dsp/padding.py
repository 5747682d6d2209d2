"""Reflect padding whose backward pass is deterministic on every device."""

import torch
from torch import Tensor
from torch.nn import functional


def reflect_pad(tensor: Tensor, amount: tuple[int, int], dim: int) -> Tensor:
    """Mirrors a tensor about its first and last element along one axis.

    The library's own reflect padding scatters gradients with atomic additions on CUDA and raises under strict
    determinism; slices, a flip and a concatenation do not.

    Args:
        tensor: Any shape.
        amount: Elements added (before, after) the axis.
        dim: The axis.

    Returns:
        The tensor, longer by both amounts. An axis too short to be mirrored (n <= amount) counts as
        followed by zeros, which take part in the reflection only.
    """
    before, after = amount
    if before == 0 and after == 0:
        return tensor
    length = tensor.shape[dim]
    missing = max(before, after) + 1 - length
    if missing > 0:
        extended = reflect_pad(zero_pad(tensor, (0, missing), dim), amount, dim)
        return extended.narrow(dim, 0, length + before + after)
    inner = length - 2 - before - after
    if inner < 0:  # both mirrors read the same elements
        head = tensor.narrow(dim, 1, before).flip(dim)
        tail = tensor.narrow(dim, length - 1 - after, after).flip(dim)
        return torch.cat((head, tensor, tail), dim)
    # Disjoint pieces: the gradient of `split` is one concatenation, that of a slice a full tensor of zeros.
    pieces = tensor.split((1, before, inner, after, 1), dim)
    return torch.cat((pieces[1].flip(dim), *pieces, pieces[3].flip(dim)), dim)


def zero_pad(tensor: Tensor, amount: tuple[int, int], dim: int) -> Tensor:
    """Adds zeros (before, after) one axis; no copy when both amounts are 0."""
    if amount == (0, 0):
        return tensor
    axes_after = (-1 - dim) if dim < 0 else tensor.dim() - 1 - dim
    return functional.pad(tensor, (0, 0) * axes_after + amount)

"""Sums and means of small tensors over all ranks."""

from typing import Literal

import torch.distributed as dist
from torch import Tensor


def reduce_over_ranks(values: Tensor, how: Literal["sum", "mean"]) -> Tensor:
    """Reduce a tensor over all ranks, in place; every rank calls it at the same place.

    The same as Lightning's `Strategy.reduce` but for the barrier before the reduction, in which the host waits until
    its GPU has done all that is queued.

    Args:
        values: any shape.
        how: what to do with the values of the ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values
    if how == "sum":
        dist.all_reduce(values, dist.ReduceOp.SUM)
    elif dist.get_backend() == "gloo":  # which has no mean
        dist.all_reduce(values, dist.ReduceOp.SUM)
        values.div_(dist.get_world_size())
    else:
        dist.all_reduce(values, dist.ReduceOp.AVG)
    return values

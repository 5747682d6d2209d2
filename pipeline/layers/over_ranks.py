"""Statistics that all ranks of a run share, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """all_gather whose gradient adds up what every rank has found for this rank's share."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _gather(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _gather(gradients[0])[:, dist.get_rank()].sum(0)


def _gather(values: Tensor) -> Tensor:
    shares = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(shares, values.contiguous())
    return torch.stack(shares)


def gather_over_ranks(values: Tensor) -> Tensor:
    """What all ranks hold, in their order, so that a sum over it is the same to the last bit on each of them.

    Every rank has to call it equally often; training does, validation must not.

    Args:
        values: Any shape, equal on all ranks.

    Returns:
        (ranks, ...); one rank where there is no process group.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values.unsqueeze(0)
    gathered: Tensor = _Gather.apply(values)
    return gathered


def is_recomputation() -> bool:
    """Whether a forward pass runs inside a backward pass, as activation checkpointing has it.

    It happened before, so that state which a pass moves on must stay.
    """
    return torch._C._current_graph_task_id() != -1

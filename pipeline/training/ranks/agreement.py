"""What all ranks of a run decide together after an optimiser step: go on, save, or save and stop."""

from datetime import timedelta
from enum import IntEnum

import torch
import torch.distributed as dist

from pipeline.errors import PeerError

_WIDTH = 32  # bytes of a number that is summed


class Decision(IntEnum):
    """What comes next; of different wishes the greatest wins."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class StopRequested(Exception):
    """Leaves the training loop after a signal or at the end of the time; all that was trained is saved."""


class RankAgreement:
    """One small all-reduce a step, over the network of the CPU, and read a step later so that nothing waits for it.

    Args:
        timeout: how long a rank waits for the others before it gives up.
    """

    def __init__(self, timeout: timedelta) -> None:
        self._timeout = timeout
        self._group: dist.ProcessGroup | None = None
        self._under_way: tuple[dist.Work, torch.Tensor] | None = None

    def connect(self) -> None:
        """Open the group; every rank calls it, once the ranks are connected at all."""
        if dist.is_available() and dist.is_initialized() and self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self._timeout)

    def decide(self, wish: Decision) -> Decision:
        """Return the greatest wish of all ranks: with several of them, the wishes of one call before.

        Raises:
            PeerError: another rank is gone.
        """
        if self._group is None:
            return wish
        former = self._finish()
        value = torch.tensor([int(wish)])
        work = dist.all_reduce(value, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._under_way = (work, value)
        return former

    def greatest(self, value: int) -> int:
        """Return the greatest value of all ranks, now; every rank calls it at the same place.

        Raises:
            PeerError: another rank is gone.
        """
        if self._group is None:
            return value
        shared = torch.tensor([value])
        try:
            dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._group)
        except RuntimeError as error:
            raise _lost(error) from None
        return int(shared)

    def total(self, value: int) -> int:
        """Return the sum over all ranks, modulo 2^256; every rank calls it at the same place.

        Args:
            value: from 0 to 2^256 - 1.

        Raises:
            PeerError: another rank is gone.
        """
        if self._group is None:
            return value
        own = torch.frombuffer(bytearray(value.to_bytes(_WIDTH, "little")), dtype=torch.uint8)
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size(self._group))]
        try:
            dist.all_gather(parts, own, group=self._group)
        except RuntimeError as error:
            raise _lost(error) from None
        return sum(int.from_bytes(bytes(part.tolist()), "little") for part in parts) % 2 ** (8 * _WIDTH)

    def close(self) -> None:
        """Take the last answer, so that no rank leaves while another still asks it."""
        if self._group is not None:
            self._finish()

    def _finish(self) -> Decision:
        if self._under_way is None:
            return Decision.GO_ON
        (work, value), self._under_way = self._under_way, None
        try:
            work.wait()
        except RuntimeError as error:
            raise _lost(error) from None
        return Decision(int(value))


def _lost(error: RuntimeError) -> PeerError:
    return PeerError(f"another rank is gone, see its own message ({str(error).splitlines()[0]})")

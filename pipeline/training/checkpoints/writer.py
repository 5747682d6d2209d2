"""Writes checkpoints beside training: the training thread only copies the state, a second thread does the rest."""

import copy
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class BackgroundWriter:
    """One thread, one write at a time, in order; an error of a write is raised at the next call.

    Attributes:
        slowest_s: the longest time that a save took so far, copy and write together, in seconds.

    The copy's memory is used again by the next save: fresh memory would make a copy two to three times slower.
    """

    def __init__(self) -> None:
        self.slowest_s = 0.0
        self._memory: dict[str, Any] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None

    def reserve(self, state: dict[str, Any]) -> None:
        """Make memory for copies of a state in the second thread, so that the first save need not.

        Args:
            state: parts of a checkpoint, under the same keys.
        """
        self._under_way = self._thread.submit(self._make_room, state)

    def _make_room(self, state: dict[str, Any]) -> None:
        self._memory = _copy(state, None, _room_for)

    @property
    def is_busy(self) -> bool:
        """Whether a write is under way."""
        return self._under_way is not None and not self._under_way.done()

    def submit(self, checkpoint: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Copy a state and have it written; waits for the former write.

        Args:
            checkpoint: plain data and tensors on any device; may change as soon as this returns.
            write: called in the second thread with the copy.

        Raises:
            CheckpointError: the former write failed.
        """
        began = time.perf_counter()
        self.wait()
        self._memory = _copy(checkpoint, self._memory)
        self._under_way = self._thread.submit(self._run, began, self._memory, write)

    def check(self) -> None:
        """Raise the error of the newest write, if it has failed by now.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        if not self.is_busy:
            self.wait()

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _run(self, began: float, copy: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        write(copy)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True)


def _room_for(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor, device="cpu")


def _copy(value: Any, former: Any, fresh: Callable[[torch.Tensor], torch.Tensor] = _to_host) -> Any:
    """Copy tensors to the CPU's memory, that of the former copy where it fits, and all containers around them."""
    if isinstance(value, torch.Tensor):
        if isinstance(former, torch.Tensor) and (former.shape, former.dtype) == (value.shape, value.dtype):
            return former.copy_(value.detach())
        return fresh(value)
    if isinstance(value, dict):
        known = former if isinstance(former, dict) else {}
        same_kind = copy.copy(value)  # a Counter made from pairs would count them
        for key, item in value.items():
            same_kind[key] = _copy(item, known[key] if key in known else None, fresh)
        return same_kind
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        fits = isinstance(former, list | tuple) and len(former) == len(value)
        olds = former if fits else [None] * len(value)
        return type(value)(_copy(item, old, fresh) for item, old in zip(value, olds, strict=True))
    return value

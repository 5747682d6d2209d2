"""Finds what makes the host wait for the training device, with the place in the code."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
_aten = torch.ops.aten
_READS = (_aten._local_scalar_dense.default, _aten.equal.default, _aten.nonzero.default)
_COPIES = (_aten._to_copy.default, _aten.copy_.default)


class HostWaits(TorchDispatchMode):
    """Notes operations that read a value of a tensor, or copy between host and device other than through pinned memory.

    Works on a CPU, too, where it finds what would wait on a GPU, if not the copies. CUDA itself does not call a copy
    from pageable memory a synchronisation, though the host waits for it.

    Args:
        device_type: where training takes place: `cpu` or `cuda`.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._device_type = device_type

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        is_read = func in _READS and args[0].device.type == self._device_type
        if is_read or (func in _COPIES and _waits(func, args, kwargs or {}, out)):
            self.found.append(f"{func}\n{place()}")
        return out


def _waits(func, args, kwargs, out) -> bool:
    """Whether a copy between host and device makes the host wait."""
    source, target = (args[0], out) if func is _aten._to_copy.default else (args[1], args[0])
    if not isinstance(source, torch.Tensor) or source.is_cuda == target.is_cuda:
        return False
    is_late = kwargs.get("non_blocking") or (func is _aten.copy_.default and len(args) > 2 and args[2])
    return not (is_late and (target if source.is_cuda else source).is_pinned())


def place(frames: int = 8) -> str:
    """The innermost calls that lead here, without those of this file and of torch's own dispatching."""
    inner = [
        f"    {Path(frame.filename).relative_to(ROOT) if frame.filename.startswith(str(ROOT)) else frame.filename}"
        f":{frame.lineno} {frame.name}: {frame.line}"
        for frame in traceback.extract_stack()
        if frame.filename != __file__ and "_python_dispatch" not in frame.filename
    ]
    return "\n".join(inner[-frames:])


@contextmanager
def cuda_waits() -> Iterator[list[str]]:
    """Collects what CUDA calls a synchronisation."""
    found: list[str] = []

    def note(message, *ignored, **also_ignored):
        if "synchronizing CUDA operation" in str(message):
            found.append(f"{str(message).splitlines()[0]}\n{place()}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


class StepWaits(pl.Callback):
    """Collects the waits of steps, from one batch's start to the next one's; put it first.

    Args:
        first: step, counted from 1, from which on they are collected.
        last: step after which they are not.
        deep: watch each operation, too, see `HostWaits`; compiled regions may run uncompiled meanwhile.
    """

    def __init__(self, first: int, last: int, deep: bool = True) -> None:
        self.found: dict[int, list[str]] = {}
        self._steps = range(first, last + 1)
        self._deep = deep
        self._open: list = []

    def on_train_batch_start(self, trainer, *ignored):
        self._close()
        step = trainer.global_step + 1
        if step not in self._steps:
            return
        found = self.found.setdefault(step, [])
        device_type = trainer.strategy.root_device.type
        watched = [HostWaits(device_type)] if self._deep else []
        watched += [cuda_waits()] if device_type == "cuda" else []
        for context in watched:
            entered = context.__enter__()
            self._open.append((context, found, entered.found if isinstance(entered, HostWaits) else entered))

    def on_train_end(self, *ignored):
        self._close()

    def _close(self):
        while self._open:
            context, found, own = self._open.pop()
            context.__exit__(None, None, None)
            found += own

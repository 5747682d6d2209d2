"""How a batch comes from a loader's worker into the main process, whose time is the GPU's.

torch sends every tensor of a batch through a file descriptor of its own: a socket, a handshake, a mapping of new pages,
all of which hold the main process up. Here positions travel as plain bytes, and the audio of training batches lies in
places that exist as long as their loader.
"""

import itertools
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from pipeline.data.bad_files import BadFile
from pipeline.data.dataset import Batch, Segment, collate, shared_tensor
from pipeline.errors import DataError

_GIB = 2**30
_USUAL_PREFETCH = 2  # of DataLoader, batches per worker
_SHARED_MEMORY = Path("/dev/shm")
MORE_SHARED_MEMORY = (
    "lower num_workers or prefetch_factor of data.train_dataloader and data.eval_dataloader, or give a container more "
    "shared memory (docker run --shm-size or --ipc=host)"
)


class Places:
    """Shared memory for the batches that are under way at a time.

    Batch n of the global sequence has place n % count. Workers are asked for it when batch n - count is handed out, and
    a batch is taken from its place before.
    """

    _open: WeakValueDictionary[int, "Places"] = WeakValueDictionary()
    _numbers = itertools.count()

    def __init__(self, count: int, batch_shape: Sequence[int], *, global_batch: int, is_pinned: bool) -> None:
        """Takes the memory.

        Args:
            count: Batches that workers may have been asked for at a time.
            batch_shape: (B, C, S).
            global_batch: Samples of a batch over all ranks.
            is_pinned: Whether batches are taken to memory that a GPU fetches from by itself.

        Raises:
            DataError: There is less shared memory.
        """
        needed, free = 4 * count * math.prod(batch_shape), _free_shared_memory()
        if needed > free:
            raise DataError(
                f"batches on their way from workers take {needed / _GIB:.1f} GiB of shared memory, and /dev/shm has "
                f"{free / _GIB:.1f} GiB free; {MORE_SHARED_MEMORY}"
            )
        self._waveforms = shared_tensor(count, *batch_shape)
        self._global_batch, self._is_pinned = global_batch, is_pinned
        # a batch brings it along, for the main process to find the places by
        self.number = next(self._numbers)
        self._open[self.number] = self

    @classmethod
    def opened(cls, number: int) -> "Places":
        """Return the places of a loader of this process."""
        return cls._open[number]

    def place_of(self, position: int) -> int:
        """Return the place of the batch that holds a position of the global sequence."""
        return position // self._global_batch % len(self._waveforms)

    def at(self, place: int) -> Tensor:
        """Return (B, C, S) as it lies there, until the next batch comes."""
        return self._waveforms[place]

    def take(self, place: int) -> Tensor:
        """Return (B, C, S) for good."""
        if self._is_pinned:
            with suppress(RuntimeError):
                # DataLoader pins what is not pinned yet, and can report why it cannot be
                return self.at(place).pin_memory()
        return self.at(place).clone()


def _free_shared_memory() -> float:
    """Return bytes; on systems other than Linux nothing tells how much there is."""
    return shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.exists() else math.inf


class Notes(NamedTuple):
    """What a batch is besides its audio, as plain data."""

    positions: bytes
    paths: Sequence[str]
    sources: Sequence[str]
    bad: Sequence[BadFile]

    @classmethod
    def of(cls, batch: Batch) -> "Notes":
        """Take them from a batch."""
        return cls(batch.position.numpy().tobytes(), batch.paths, batch.sources, batch.bad)

    def with_audio(self, waveform: Tensor) -> Batch:
        """Return the batch."""
        positions = np.frombuffer(self.positions, np.int64)
        return Batch(waveform, torch.from_numpy(positions.copy()), self.paths, self.sources, self.bad)


class Sent:
    """A batch that leaves a worker: pickled, it is a call that makes the batch where it arrives."""

    def __init__(self, arrive: Callable[..., Batch], *parts: Any) -> None:
        """Takes what is called there, and with what."""
        self._call = arrive, parts

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        """The call."""
        return self._call


def _from_place(places: int, place: int, notes: Notes) -> Batch:
    return notes.with_audio(Places.opened(places).take(place))


def _as_sent(waveform: Tensor, notes: Notes) -> Batch:
    return notes.with_audio(waveform)


class Transport:
    """Stacks segments into a batch and sends it: the `collate_fn` of a loader."""

    def __init__(self, places: Places | None = None) -> None:
        """Takes the places of a loader whose batches all have one size; without, audio goes as torch sends it."""
        self._places = places

    def __call__(self, segments: list[Segment]) -> Batch | Sent:
        """Return a batch in the main process, and in a worker what becomes one there."""
        if get_worker_info() is None:
            return collate(segments)
        if self._places is None:
            batch = collate(segments)
            return Sent(_as_sent, batch.waveform, Notes.of(batch))
        place = self._places.place_of(segments[0].position)
        batch = collate(segments, out=self._places.at(place))
        return Sent(_from_place, self._places.number, place, Notes.of(batch))


def training_transport(
    options: Mapping[str, Any], batch_shape: Sequence[int], global_batch: int
) -> Transport:
    """Return the `collate_fn` of a training loader, with places where it has workers.

    Args:
        options: Keyword arguments of DataLoader.
        batch_shape: (B, C, S).
        global_batch: Samples of a batch over all ranks.

    Raises:
        DataError: As `Places`.
    """
    if not options["num_workers"]:
        return Transport()
    under_way = options["num_workers"] * (options["prefetch_factor"] or _USUAL_PREFETCH)
    return Transport(
        Places(under_way, batch_shape, global_batch=global_batch, is_pinned=options["pin_memory"])
    )

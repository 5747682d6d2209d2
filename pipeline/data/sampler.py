"""The order of training samples: one global sequence, cut for any number of ranks, resumable anywhere."""

import weakref
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from pipeline.data.mixture import Mixture
from pipeline.data.seeds import derive_seed
from pipeline.data.workers import WorkerLoader


class SampleKey(NamedTuple):
    """All that a training sample is made from, and its place in the global sequence of the whole training."""

    item: int
    epoch: int
    position: int


def whole_batches(num_items: int, global_batch: int, accumulate: int) -> int:
    """Returns the batches of an epoch, cut to whole optimiser steps; at least one step."""
    return max(1, num_items // (global_batch * accumulate)) * accumulate


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """Batches of one rank.

    Global batch g holds the places [g * G, (g + 1) * G) of the epoch's order, G = batch * world. A rank takes
    its consecutive part of every global batch, so that the sequence of global batches is the same for any
    number of ranks of equal total. An epoch holds whole optimiser steps: `accumulate` global batches each, so that
    the sequence does not depend on how a step is cut. The last, incomplete step is left out. With fewer items
    than one step, or than `items_per_epoch`, the index space is extended: index i is another crop of slot i %
    num_items.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        items_per_epoch: int | None = None,
        limit_batches: int | None = None,
        repeat_first_epoch: bool = False,
        mixture: Mixture | None = None,
    ) -> None:
        """Describes the sequence.

        Args:
            num_items: Different items (slots of the data set).
            batch_size: Samples per batch of this rank.
            seed: Seed of the run.
            rank: Number of this process.
            world_size: Number of processes.
            accumulate: Batches per optimiser step.
            items_per_epoch: Samples per epoch over all ranks; None takes every item once.
            limit_batches: Batches after which an epoch ends early.
            repeat_first_epoch: Give the samples of epoch 0 in every epoch (to overfit on purpose).
            mixture: Draws the items in given proportions; None: all alike.
        """
        self.global_batch = batch_size * world_size
        num_batches = whole_batches(items_per_epoch or num_items, self.global_batch, accumulate)
        self._num_batches = num_batches if limit_batches is None else min(limit_batches, num_batches)
        self._num_draws = num_batches * self.global_batch
        self._mixture = mixture
        self._num_indices = max(num_items, num_batches * self.global_batch)
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._repeats = repeat_first_epoch
        self.epoch = 0
        self.batches_done = 0

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._num_batches

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yields the batches of epoch `epoch` from batch `batches_done` on."""
        epoch = 0 if self._repeats else self.epoch
        order = self._order(epoch)
        start_of_epoch = self.epoch * len(self) * self.global_batch
        for batch in range(self.batches_done, len(self)):
            first = batch * self.global_batch + self._rank * self._batch_size
            yield [
                SampleKey(int(order[place]), epoch, start_of_epoch + place)
                for place in range(first, first + self._batch_size)
            ]

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """Permutation of all items; made by sorting raw bits, it is the same under every NumPy version."""
        if self._mixture is not None:
            return self._mixture.order(epoch, self._num_draws)
        keys = np.random.PCG64(derive_seed(self._seed, "order", epoch)).random_raw(self._num_indices)
        return np.argsort(keys, kind="stable")


class ShardSampler(Sampler[list[int]]):
    """Batches of one rank for evaluation: items rank, rank + world, ..., each once.

    The last batch may be short, and one rank may have a batch more than another. With fewer items than ranks
    the late ranks repeat an item, so that none waits for the others for ever.
    """

    def __init__(self, num_items: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        """Describes the shard of `rank` among `world_size`."""
        self._items = list(range(rank, num_items, world_size)) or [rank % num_items]
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Batches of this rank."""
        return -(-len(self._items) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields lists of item numbers."""
        for first in range(0, len(self._items), self._batch_size):
            yield self._items[first : first + self._batch_size]


class ResumableLoader(WorkerLoader):
    """A loader that starts at any position of the global sequence.

    The position is given to the sampler before an iterator exists, so that workers begin to prefetch at the right
    place. A new iterator ends the one before it, whose workers would write into the same memory.
    """

    def __init__(self, dataset: Any, batch_sampler: GlobalBatchSampler, **options: Any) -> None:
        """Takes what DataLoader takes."""
        super().__init__(dataset, batch_sampler=batch_sampler, **options)
        self._sequence = batch_sampler
        self._epoch = 0
        self._done = 0
        self._is_restored = False
        self._running: weakref.ref[Generator[Any]] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Goes on where a restored state stands; otherwise starts the next epoch."""
        if self._running is not None and (running := self._running()) is not None:
            running.close()
        is_epoch_over = self._done >= len(self)
        if is_epoch_over or (self._done > 0 and not self._is_restored):
            self._epoch, self._done = self._epoch + 1, 0
        self._is_restored = False
        self._sequence.epoch, self._sequence.batches_done = self._epoch, self._done
        batches = self._count(super().__iter__())
        self._running = weakref.ref(batches)
        return batches

    def _count(self, batches: Iterator[Any]) -> Generator[Any]:
        for batch in batches:
            self._done += 1
            yield batch

    @property
    def global_batch(self) -> int:
        """Samples per batch over all ranks."""
        return self._sequence.global_batch

    def seek(self, epoch: int, samples: int) -> None:
        """Takes up a position; the next iterator starts there.

        Args:
            epoch: Epochs behind.
            samples: Samples of the next epoch that are behind, over all ranks; a multiple of `global_batch`.
        """
        assert samples % self.global_batch == 0, (samples, self.global_batch)
        self._epoch, self._done, self._is_restored = epoch, samples // self.global_batch, True

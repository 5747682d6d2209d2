"""Drawing from several sets, or tracks, in given proportions: as exact as whole numbers allow, and a pure function."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.seeds import SEED_RANGE, derive_seed

_BLOCK = 64  # draws that are shuffled among each other
_GOLDEN = 0.6180339887498949


class Slots(NamedTuple):
    """The slots of one set, which follow those of the set before it."""

    num_slots: int
    weight: float
    """Share of the draws, beside the weights of the other sets."""
    slot_weights: NDArray[np.float64] | None
    """Share of each slot in the draws of its set; None: all alike."""


class Mixture:
    """The order of a mixed epoch.

    Each set is given its share of the draws, rounded to whole ones; any stretch of the order holds the sets in these
    proportions but for a few dozen draws. Inside a set every slot is met once before any is met again, from epoch to
    epoch; weighted slots are met as often as their weight says, rounded up or down.
    """

    def __init__(self, sets: Sequence[Slots], seed: int) -> None:
        """Takes the sets in the order of their slots."""
        self._sets = tuple(sets)
        self._seed = seed
        self._num_slots = sum(each.num_slots for each in sets)

    def counts(self, num_draws: int) -> list[int]:
        """Draws of each set in an epoch: w_s / sum(w) * num_draws, the largest remainders rounded up."""
        total = sum(each.weight for each in self._sets)
        exact = [each.weight / total * num_draws for each in self._sets]
        counts = [int(share) for share in exact]
        by_remainder = sorted(range(len(exact)), key=lambda number: (counts[number] - exact[number], number))
        for number in by_remainder[: num_draws - sum(counts)]:
            counts[number] += 1
        return counts

    def order(self, epoch: int, num_draws: int) -> NDArray[np.int64]:
        """Items of an epoch: slot + repetition * (number of all slots), so that no two of an epoch are the same crop.

        Args:
            epoch: Number of the epoch.
            num_draws: Draws of every epoch.
        """
        counts = self.counts(num_draws)
        first_slots = np.cumsum([0, *(each.num_slots for each in self._sets)])
        drawn = [
            (self._cycled if each.slot_weights is None else self._weighted)(number, epoch, count)
            for number, (each, count) in enumerate(zip(self._sets, counts, strict=True))
        ]
        items = np.concatenate([draws + first for draws, first in zip(drawn, first_slots, strict=False)])
        # The j-th of a set's n draws belongs at (j + 1/2) / n of the epoch; then neighbours change places.
        places = np.concatenate([(np.arange(count) + 0.5) / max(1, count) for count in counts])
        spread = np.argsort(places, kind="stable")
        bits = _bits(num_draws, self._seed, "interleave", epoch)
        return items[spread[np.lexsort((bits, np.arange(num_draws) // _BLOCK))]]

    def _cycled(self, number: int, epoch: int, count: int) -> NDArray[np.int64]:
        """The next `count` draws of an endless row of shuffled decks."""
        size = self._sets[number].num_slots
        behind = epoch * count
        decks = range(behind // size, -(-(behind + count) // size))
        row = [
            np.argsort(_bits(size, self._seed, "deck", number, deck), kind="stable") + deck * self._num_slots
            for deck in decks
        ]
        start = behind - decks.start * size
        return np.concatenate([*row, np.empty(0, np.int64)])[start : start + count].astype(np.int64)

    def _weighted(self, number: int, epoch: int, count: int) -> NDArray[np.int64]:
        """Systematic sampling: slots under evenly spaced points of the summed weights, from a moving start."""
        weights = self._sets[number].slot_weights
        assert weights is not None
        ends = np.cumsum(weights)
        start = (derive_seed(self._seed, "systematic", number) / SEED_RANGE + epoch * _GOLDEN) % 1.0
        slots = np.searchsorted(ends, (np.arange(count) + start) / max(1, count) * ends[-1], side="right")
        slots = np.minimum(slots, len(weights) - 1)
        repetition = np.arange(count) - np.searchsorted(slots, slots)
        shuffled = np.argsort(_bits(count, self._seed, "shuffle", number, epoch), kind="stable")
        return (slots + repetition * self._num_slots)[shuffled]


def _bits(count: int, seed: int, *parts: int | str) -> NDArray[np.uint64]:
    """Raw bits, the same under every NumPy version."""
    return np.random.PCG64(derive_seed(seed, "mixture", *parts)).random_raw(count)

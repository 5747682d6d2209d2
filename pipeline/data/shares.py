"""In which proportions the files of a training set are drawn. Needs no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.data.manifest import AudioEntry


class Share(NamedTuple):
    """Consecutive files of a training set that are drawn in a proportion of their own."""

    name: str
    num_entries: int
    weight: float
    weights: tuple[float, ...] | None
    """How often each of the files is drawn, beside others of its length; None: all alike."""


def share_of(name: str, weight: float, entries: Sequence[AudioEntry], weights: Mapping[str, float]) -> Share:
    """Makes a share of files whose weights are given by path, where they are not 1."""
    own = tuple(weights.get(entry.path, 1.0) for entry in entries)
    return Share(name, len(entries), weight, own if set(own) != {1.0} else None)


def digest_with(digest: str, shares: Sequence[Share]) -> str:
    """A digest of a training set and of the proportions in which it is drawn."""
    return hashlib.sha256(repr((digest, tuple(shares))).encode()).hexdigest() if shares else digest

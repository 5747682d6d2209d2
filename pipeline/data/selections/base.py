"""What a selection gives. Needs no torch."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline.data.manifest import AudioEntry, Manifest
from pipeline.errors import DataError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""Names that lists give to the three splits."""


class Division(NamedTuple):
    """The tracks of a folder, divided."""

    train: tuple[AudioEntry, ...]
    evaluation: tuple[AudioEntry, ...] | None
    """None: not told; a share of `train` is to be held out by name."""
    weights: Mapping[str, float]
    """How often a track is drawn, by path, beside others of its length; what is not there has 1."""
    notes: tuple[str, ...]


class Selection(Protocol):
    """Divides the tracks of a folder."""

    def divide(self, manifest: Manifest) -> Division:
        """Divides what is usable in a folder.

        Raises:
            DataError: A list cannot be read, or nothing is left.
        """


def split_named(name: str) -> str | None:
    """Returns `train`, `validation` or `test` for any of their names; None for another."""
    return next((split for split, names in SPLITS.items() if name.strip().lower() in names), None)


def read_lines(path: str) -> list[str]:
    """Returns the lines of a list.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of tracks cannot be read ({error})") from error


class Tracks:
    """The tracks of a folder by path, and an account of those that a list names in vain."""

    def __init__(self, manifest: Manifest, source: str) -> None:
        """Takes the usable and the bad tracks of a folder, and the name of the list."""
        self._root = manifest.root
        self._source = source
        self._usable = {entry.path: entry for entry in manifest.entries}
        self._bad = {os.path.relpath(bad.path, manifest.root) for bad in manifest.bad_files}
        self._missing: list[str] = []

    def find(self, *paths: str) -> AudioEntry | None:
        """Returns the first of these paths that is usable; None for a bad file, or one that is not there."""
        for path in paths:
            if path in self._usable:
                return self._usable[path]
        if not self._bad.intersection(paths):
            self._missing.append(paths[0])
        return None

    def notes(self) -> tuple[str, ...]:
        """One line if listed tracks are not there."""
        if not self._missing:
            return ()
        return (
            f"warning: {len(self._missing)} tracks of {self._source} are not in {self._root} "
            f"(first: {self._missing[0]})",
        )


def divided(
    found: Mapping[str, Iterable[AudioEntry]],
    evaluate_on: str,
    weights: Mapping[str, float],
    tracks: Tracks,
    source: str,
) -> Division:
    """Makes a division of tracks by split.

    Raises:
        DataError: No track is left for training or for evaluation.
    """
    by_path = {
        split: tuple(sorted(entries, key=lambda entry: entry.path)) for split, entries in found.items()
    }
    for split in ("train", evaluate_on):
        if not by_path.get(split):
            (first, *_) = (*tracks.notes(), "the list has none")
            raise DataError(f"{source}: no usable track for the split {split} ({first})")
    return Division(by_path["train"], by_path[evaluate_on], weights, tracks.notes())

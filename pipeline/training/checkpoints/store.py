"""The checkpoints of one run on disk: which there are, which is the newest whole one, which stay."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.atomic import free_name, write_text
from pipeline.errors import CheckpointError
from pipeline.training.checkpoint import (
    BEST,
    LAST,
    PREVIOUS,
    check_state,
    has_shards,
    peek_step,
    read,
    verify,
)
from pipeline.training.checkpoints.file import DamagedCheckpointError, link, write_atomically
from pipeline.training.checkpoints.shards import SHARDS, prune

_log = logging.getLogger(__name__)

# Names that this program gives; a user may keep copies under others.
_RANKED = re.compile(r"step-(\d{8,})\.ckpt")
_OWN = re.compile(rf"({_RANKED.pattern}|{LAST}|{PREVIOUS}|{BEST})(\.damaged)?")


@dataclass(frozen=True)
class Found:
    """The checkpoint that a run goes on from.

    Attributes:
        path: the newest whole checkpoint, None where there is none.
        notes: what was passed over and why.
    """

    path: Path | None
    notes: tuple[str, ...]


class CheckpointStore:
    """The checkpoint folder of a run.

    `last.ckpt` is the newest, `previous.ckpt` the one before it, `best.ckpt` the best by the monitored metric and
    `step-<n>.ckpt` the ranked ones. Names that mean the same checkpoint share one file.

    Args:
        directory: the folder.
        save_top_k: how many ranked checkpoints stay; -1 keeps all, 0 keeps `last.ckpt` alone.
        marker: file outside the folder that says, from the first save on, that there are checkpoints; None for none.
    """

    def __init__(self, directory: Path, save_top_k: int, marker: Path | None = None) -> None:
        self.directory = directory
        self._save_top_k = save_top_k
        self._marker = marker

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.directory / LAST

    def keep_previous(self) -> None:
        """Give the newest checkpoint the name of the one before it, shortly before a newer one takes its place."""
        if self._save_top_k != 0 and self.last.exists():
            link(self.last, self.directory / PREVIOUS)

    def enter(self, names: Sequence[str], ranking: Sequence[str]) -> None:
        """Give the newest checkpoint further names, keep `best.ckpt` the best, and drop what is no longer ranked.

        Args:
            names: further names of `last.ckpt`.
            ranking: names of the ranked checkpoints, best first.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        self._mark()
        for name in names:
            link(self.last, self.directory / name)
        if ranking and (self.directory / ranking[0]).exists():
            link(self.directory / ranking[0], self.directory / BEST)
        if self._save_top_k > 0:
            for path in self._ranked():
                if path.name not in ranking:
                    path.unlink()

    def _mark(self) -> None:
        if self._marker is None or self._marker.exists():
            return
        try:
            write_text(self._marker, f"{self.directory}\n")
        except OSError as error:
            raise CheckpointError(f"{self._marker}: cannot be written ({error})") from error

    def _ranked(self) -> Iterator[Path]:
        return (
            path for path in self.directory.glob("*.ckpt") if _RANKED.fullmatch(path.name) and path.is_file()
        )

    @property
    def is_lost(self) -> bool:
        """Whether this run has saved checkpoints and not even a damaged one is left."""
        if self._marker is None or not self._marker.exists():
            return False
        return not any(
            _OWN.fullmatch(path.name) and path.is_file() for path in self.directory.glob("*.ckpt*")
        )

    def repair(self, ranking: Sequence[str], name: str) -> None:
        """Finish what a kill cut short after a checkpoint was written and before its names were.

        Args:
            ranking: names of the ranked checkpoints of `last.ckpt`, best first.
            name: the name that `last.ckpt` has if it is ranked.
        """
        for leftover in self.directory.glob(".*.tmp"):
            leftover.unlink()
        prune(self.directory)
        if self.last.exists():
            self.enter([name] if name in ranking else [], ranking)

    def unite(self) -> None:
        """Turn every checkpoint that has shards into one file; names that shared a file share one again.

        Raises:
            CheckpointError: the disk is full.
        """
        names: dict[int, list[Path]] = {}
        own = (path for path in self.directory.glob("*.ckpt") if _OWN.fullmatch(path.name) and path.is_file())
        for path in sorted(own):
            names.setdefault(path.stat().st_ino, []).append(path)
        for first, *others in names.values():
            try:
                whole = read(first) if has_shards(first) else None
            except DamagedCheckpointError as error:
                _log.warning("%s; it stays as it is", error)
                continue
            if whole is not None:
                write_atomically(whole, first)
                for other in others:
                    link(first, other)
        prune(self.directory)

    def _require_shards(self) -> None:
        """Refuse checkpoints whose shards are all gone: they were left behind in a copy, not damaged.

        Raises:
            CheckpointError: names the folder.
        """
        folder = self.directory / SHARDS
        indices = [path for path in self.directory.glob("*.ckpt") if _OWN.fullmatch(path.name)]
        if not folder.is_dir() and any(_lists_shards(path) for path in indices):
            raise CheckpointError(
                f"{folder}: missing, and the checkpoints in {self.directory} list shards there; put the folder back "
                "(copy it along with the checkpoints), or start a new run with run.init_from"
            )

    def newest(self, may_rename: bool) -> Found:
        """Find the newest whole checkpoint.

        Args:
            may_rename: give damaged files the ending `.damaged`, so that none is met twice.

        Raises:
            CheckpointError: a file is whole and cannot be read all the same, another program wrote it, or the shards
                of all checkpoints are gone; passing it over would lose its work.
        """
        self._require_shards()
        notes = []
        for path in self._newest_first():
            if path.is_dir():
                notes.append(f"passed over: {path}: a folder, not a checkpoint")
                if may_rename:
                    path.rename(free_name(path.with_name(path.name + ".damaged")))
                continue
            try:
                verify(path)
                check_state(path)
            except DamagedCheckpointError as error:
                notes.append(f"passed over: {error}")
                if may_rename and path.exists():
                    path.rename(path.with_name(path.name + ".damaged"))
                continue
            except CheckpointError:
                if path.exists():
                    raise
                continue  # the first rank has renamed it
            return Found(path, tuple(notes))
        return Found(None, tuple(notes))

    def _newest_first(self) -> list[Path]:
        """Order by optimiser steps; a file that does not tell them comes first, to be named and passed over."""
        steps: dict[Path, int] = {}
        for name in (LAST, PREVIOUS, BEST):
            path = self.directory / name
            if path.exists():
                try:
                    steps[path] = peek_step(path)
                except CheckpointError:
                    steps[path] = 2**62
        for path in self._ranked():
            steps[path] = int(path.stem.removeprefix("step-"))
        order = [LAST, PREVIOUS]  # of equals: last.ckpt also knows what came after the step
        return sorted(
            steps,
            key=lambda path: (-steps[path], order.index(path.name) if path.name in order else len(order)),
        )


def _lists_shards(path: Path) -> bool:
    try:
        return path.is_file() and has_shards(path)
    except CheckpointError:
        return False

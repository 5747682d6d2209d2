"""`wandb/rows.jsonl`: every row that was given to Weights & Biases, and in which segment it should be.

wandb writes in a process of its own, some time after a row was logged, and what a kill leaves of it is not known in
advance. With the segments beside it this file tells which rows got lost and which are there.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.training.logs.base import disk_errors, sync


@dataclass(frozen=True)
class Row:
    """One row of the history.

    Attributes:
        number: wandb's `_step`, which grows with every row.
        step: optimiser steps done.
        metrics: name -> value.
        media: (kind, name, path of the file seen from the run directory).
        segment: folder of the segment that holds the row, once it is written.
    """

    number: int
    step: int
    metrics: dict[str, float]
    media: list[list[str]]
    segment: str

    @property
    def key(self) -> tuple[int, frozenset[str]]:
        """What makes two rows the same one: a resumed run measures the same values again."""
        return self.step, frozenset(self.metrics) | {name for _, name, _ in self.media}


class RowFile:
    """The rows on disk.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Row]:
        """Return the rows; a last one cut short by a kill is left out."""
        if not self._path.exists():
            return []
        with disk_errors(self._path):
            text = self._path.read_text(encoding="utf-8")
        return [Row(**json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]

    def replace(self, rows: Iterable[Row]) -> None:
        """Put other rows in their place, all or none."""
        fresh = self._path.with_name(f".{self._path.name}.tmp")
        with disk_errors(self._path):
            fresh.write_text("".join(_line(row) for row in rows), encoding="utf-8")
            sync(fresh)
            fresh.replace(self._path)

    def append(self, row: Row) -> None:
        """Add a row."""
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def sync(self) -> None:
        """Wait until all rows are on disk."""
        with disk_errors(self._path):
            sync(self._path)


def split(
    rows: Iterable[Row], is_there: Callable[[Row], bool], is_marked: Callable[[Row], bool]
) -> tuple[list[Row], list[Row]]:
    """Tell the rows that Weights & Biases has from those that are to be logged again.

    Args:
        rows: all rows.
        is_there: whether Weights & Biases has it.
        is_marked: whether it was logged before the checkpoint that the run continues from; the run itself logs what
            came later.

    Returns:
        The rows that are there, and those that got lost.
    """
    there = [row for row in rows if is_there(row)]
    return there, [row for row in rows if is_marked(row) and not is_there(row)]


def _line(row: Row) -> str:
    return f"{json.dumps(asdict(row))}\n"

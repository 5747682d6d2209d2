"""`metrics.csv`: every figure of a run that is not a time, one row a step."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_only

from pipeline.config.atomic import free_name
from pipeline.errors import TrainingError
from pipeline.training.logs.base import Mark, RunLog, disk_errors, sync

_log = logging.getLogger(__name__)


class MetricsCsv(RunLog):
    """One `metrics.csv` a run: one row per logged step, fixed columns, no wall-clock figures.

    Args:
        path: the file.
        columns: metric names, in order; `step` and `epoch` lead.
        mark: how many rows there were at the checkpoint that the run continues from, or None where it does not say.
        resumed_step: optimiser steps of that checkpoint; None starts the file anew.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], mark: Mark | None, resumed_step: int | None
    ) -> None:
        super().__init__()
        self._path = path
        self._columns = ["step", "epoch", *columns]
        self._num_rows: int
        self._start(mark, resumed_step)

    @property
    def name(self) -> str:
        """Name of the log."""
        return "csv"

    @rank_zero_only
    def _start(self, mark: Mark | None, resumed_step: int | None) -> None:
        rows: list[dict[str, str]] = []
        with disk_errors(self._path):
            if resumed_step is not None and self._path.exists():
                rows = self._read_or_set_aside()
                if mark is not None:
                    rows = rows[: mark["rows"]]
                else:
                    rows = [row for row in rows if int(row["step"]) <= resumed_step]
            if mark is not None and len(rows) < mark["rows"]:
                lost = mark["rows"] - len(rows)
                _log.warning("note: %s has lost %d row(s) of before step %d", self._path, lost, resumed_step)
            # A file of its own, so that a kill in between leaves the one or the other.
            fresh = self._path.with_name(f".{self._path.name}.tmp")
            with fresh.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
            sync(fresh)
            fresh.replace(self._path)
        self._num_rows = len(rows)

    def _read_or_set_aside(self) -> list[dict[str, str]]:
        try:
            rows = read_rows(self._path)
            if unknown := [name for name in (rows[0] if rows else ()) if name not in self._columns]:
                raise DamagedMetricsError(f"{self._path}: unknown column {unknown[0]!r}")
        except DamagedMetricsError as error:
            aside = free_name(self._path.with_name(f"{self._path.name}.damaged"))
            self._path.rename(aside)
            _log.warning("note: %s; it is kept as %s, and a new one begun", error, aside.name)
            return []
        return rows

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row."""
        row = {name: value for name, value in metrics.items() if name in self._columns}
        row |= {"step": step or 0, "epoch": int(metrics["epoch"])}
        with disk_errors(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)
        self._num_rows += 1

    def mark(self) -> Mark:
        """Put the rows on disk and return how many they are."""
        with disk_errors(self._path):
            sync(self._path)
        return {"rows": self._num_rows}


class DamagedMetricsError(TrainingError):
    """A metrics.csv does not hold what this program wrote."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the whole rows of a metrics.csv; a last line cut short by a kill is left out.

    Raises:
        DamagedMetricsError: another program has changed the header or the form of the rows.
    """
    try:
        with path.open(
            newline="", encoding="utf-8-sig"
        ) as file:  # a spreadsheet program adds a byte-order mark
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(whole.splitlines())
        header, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedMetricsError(f"{path}: no table of text ({error})") from None
    if whole and (header[:2] != ["step", "epoch"] or len(set(header)) < len(header)):
        raise DamagedMetricsError(f"{path}: its first line is not the header that was written")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values() or not row["step"].isdecimal():
            raise DamagedMetricsError(f"{path}: row {number} is not one that was written")
    return rows

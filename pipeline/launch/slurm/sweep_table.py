"""`make sweep-table`: the runs of a sweep, best first, as a table and as `table.csv` in its folder."""

import argparse
import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.atomic import write_text
from pipeline.errors import LaunchError
from pipeline.evaluation import HIGHER_IS_BETTER
from pipeline.launch.slurm import states
from pipeline.launch.slurm.cli import run_command, say, text_table
from pipeline.launch.slurm.states import State
from pipeline.launch.slurm.targets import add_targets, chosen

_METRICS = "metrics.csv"
_TABLE = "table.csv"
_DEFAULT = "val/sisdr"


def make_table(told: Sequence[State], metric: str) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows, best first; a run without the metric comes last.

    Args:
        told: the runs.
        metric: a column of metrics.csv; of validation metrics that know it a high value is better, else a low one.

    Raises:
        LaunchError: no run has such a column.
    """
    keys = list(dict.fromkeys(entry.partition("=")[0] for state in told for entry in state.point.overrides))
    settings = [dict(entry.partition("=")[::2] for entry in state.point.overrides) for state in told]
    varied = [key for key in keys if len(told) == 1 or len({str(own.get(key)) for own in settings}) > 1]
    measured = [read_metric(state.point.directory / _METRICS, metric) for state in told]
    known = sorted({column for _, columns in measured for column in columns})
    if known and metric not in known:
        raise LaunchError(f"METRIC={metric}: not measured in these runs; valid: {', '.join(known)}")
    sign = -1.0 if _higher_is_better(metric) else 1.0
    rows = []
    for state, own, (values, _) in zip(told, settings, measured, strict=True):
        best = min(values, key=lambda entry: sign * entry[1], default=None)
        figures = ["", "", ""] if best is None else [f"{best[1]:.6g}", str(best[0]), f"{values[-1][1]:.6g}"]
        cells = [own[key] if key in own else "" for key in varied]
        rank = math.inf if best is None else sign * best[1]
        rows.append(
            (rank, [state.point.directory.name, *cells, *figures, state.word, str(state.point.directory)])
        )
    rows.sort(key=lambda row: row[0])
    headings = ["run", *varied, f"best {metric}", "at step", f"last {metric}", "state", "directory"]
    return headings, [cells for _, cells in rows]


def read_metric(path: Path, metric: str) -> tuple[list[tuple[int, float]], list[str]]:
    """Return (step, value) of each row that has the metric, and the names of all metrics.

    Args:
        path: a metrics.csv; one that is missing or cut short has the rows that it has.
        metric: a column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return [], []
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    names = [name for name in reader.fieldnames or () if name not in ("step", "epoch")]
    if metric not in names:
        return [], names
    values = []
    for row in reader:
        try:
            step, value = int(row["step"]), float(row[metric])
        except (TypeError, ValueError):  # nothing was measured at this step
            continue
        if step > 0 and math.isfinite(value):  # the untrained model takes no part
            values.append((step, value))
    return values, names


def _higher_is_better(metric: str) -> bool:
    name = metric.removeprefix("val/")
    return name in HIGHER_IS_BETTER and HIGHER_IS_BETTER[name]


def _show(arguments: argparse.Namespace) -> int:
    for sweep in chosen(arguments):
        told, _ = states.survey(sweep.points)
        monitors = [state.facts.progress["monitor"] for state in told if "monitor" in state.facts.progress]
        metric = arguments.metric or (monitors[0] if monitors else _DEFAULT)
        headings, rows = make_table(told, metric)
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([headings, *rows])
        try:
            write_text(sweep.home / _TABLE, stream.getvalue())
            written = f"written to {sweep.home / _TABLE}"
        except OSError as error:  # somebody else's sweep
            written = f"{sweep.home / _TABLE}: not written ({error.strerror})"
        shown = [row[:-1] for row in rows]
        numbers = [heading for heading in headings if heading.startswith(("best", "at", "last"))]
        for line in text_table(headings[:-1], shown, numbers):
            say(line)
        if not any(row[headings.index(f"best {metric}")] for row in rows):
            say(f"{metric}: no values yet")  # its columns, which are empty, are not shown
        say(written)
    return 0


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="make sweep-table", description=__doc__)
    add_targets(command, required=True)
    command.add_argument(
        "--metric", help="a column of metrics.csv; by default the one that ranks checkpoints"
    )
    run_command(command, _show)

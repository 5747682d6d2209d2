"""`make status`: how it stands with the runs of a sweep, from one question to SLURM and the run directories."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.launch.slurm import states
from pipeline.launch.slurm.cli import run_command, say, text_table
from pipeline.launch.slurm.states import State
from pipeline.launch.slurm.sweep import Sweep
from pipeline.launch.slurm.targets import add_targets, chosen, own_overrides, runs_root

HEADINGS = ("run", "overrides", "state", "step", "epoch", "steps/s", "best", "restarts", "job", "reason")
NUMBERS = ("run", "step", "epoch", "steps/s", "best", "restarts")
_MOST_CHARACTERS = 60  # of overrides
_SILENT_S = 900.0  # a running job that records nothing for so long is worth a look
_WORDS = (
    states.FINISHED,
    states.RUNNING,
    states.QUEUED,
    states.FAILED,
    states.CANCELLED,
    states.STOPPED,
    states.LOST,
)


def rows(told: Sequence[State]) -> list[list[str]]:
    """Return a row of the table for each run, in the order of HEADINGS."""
    overrides = own_overrides([state.point for state in told])
    return [_row(state, own) for state, own in zip(told, overrides, strict=True)]


def summary(told: Sequence[State]) -> str:
    """Return a line like `6 runs: 4 finished, 2 queued`."""
    counts = Counter(state.word for state in told)
    parts = ", ".join(f"{counts[word]} {word}" for word in _WORDS if counts[word])
    return f"{len(told)} run{'' if len(told) == 1 else 's'}: {parts or 'none'}"


def _row(state: State, overrides: str) -> list[str]:
    progress, horizon = state.facts.progress, state.point.horizon
    name = str(state.point.number) if state.point.jobs else state.point.directory.name
    if not progress:
        figures = ["", "", "", ""]
    else:
        steps = progress.get("steps") or (horizon["max_steps"] if horizon["max_steps"] != -1 else None)
        speed = progress.get("steps_per_s") if state.word == states.RUNNING else None
        figures = [
            _of(progress["step"], steps),
            _of(progress["epoch"], horizon["max_epochs"]),
            f"{speed:.2f}" if isinstance(speed, float) else "",
            _best(progress),
        ]
    restarts = str(state.facts.restarts) if state.facts.history else ""
    return [name, shortened(overrides), state.word, *figures, restarts, state.job or "", _reason(state)]


def shortened(overrides: str) -> str:
    """Return overrides, cut where they would fill the table."""
    return overrides if len(overrides) <= _MOST_CHARACTERS else f"{overrides[: _MOST_CHARACTERS - 3]}..."


def _of(done: int, whole: int | None) -> str:
    return str(done) if whole in (None, -1) else f"{done}/{whole}"


def _best(progress: dict[str, Any]) -> str:
    best = progress.get("best")
    return f"{progress['monitor']} {best:.3f}" if isinstance(best, float) and "monitor" in progress else ""


def _reason(state: State) -> str:
    if state.word != states.RUNNING or "updated" not in state.facts.progress:
        return state.reason
    try:
        updated = datetime.fromisoformat(state.facts.progress["updated"])
    except (ValueError, TypeError):
        return state.reason
    silent_s = (datetime.now(UTC) - updated).total_seconds()
    if silent_s < _SILENT_S:
        return state.reason
    return "; ".join(filter(None, (f"no progress for {silent_s / 60:.0f} min", state.reason)))


def report(sweeps: Sequence[Sweep]) -> tuple[list[str], tuple[str, ...]]:
    """Return the tables of sweeps, and what there is to say about them."""
    told, answer = states.survey([point for sweep in sweeps for point in sweep.points])
    lines: list[str] = []
    for sweep in sweeps:
        own, told = told[: len(sweep.points)], told[len(sweep.points) :]
        lines += [f"{sweep.home}: {summary(own)}", *text_table(HEADINGS, rows(own), NUMBERS), ""]
    return lines[:-1], answer.notes


def _status(arguments: argparse.Namespace) -> int:
    sweeps = chosen(arguments)
    if not sweeps:
        say(f"no sweep in {runs_root()}; EULER_RUNS or SWEEP= names another place")
        return 0
    lines, notes = report(sweeps)
    for line in lines:
        say(line)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    return 0


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="make status", description=__doc__)
    add_targets(command, required=False)
    run_command(command, _status)

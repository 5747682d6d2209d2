"""Waits for the jobs of a launch: a live table on a terminal, a line for each change elsewhere."""

import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.launch.slurm import states
from pipeline.launch.slurm.cli import text_table
from pipeline.launch.slurm.point import Point
from pipeline.launch.slurm.states import State
from pipeline.launch.slurm.status import HEADINGS, NUMBERS, rows, shortened, summary
from pipeline.launch.slurm.sweep import Sweep
from pipeline.launch.slurm.targets import own_overrides

_log = logging.getLogger(__name__)
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_INTERRUPTED = 130
_MOST_ROWS = 40  # of the live table: those that are under way come first


@dataclass
class Patience:
    """How often SLURM is asked, and how long an end is doubted that the run directory does not confirm.

    Attributes:
        first_s: between the first questions.
        most_s: between later ones; a large cluster's controller is not to be asked more often.
        doubt_s: how long a job must look ended. Between the end of an attempt and its requeue, and between leaving
            the queue and being accounted for, a job looks as if it had ended.
    """

    first_s: float = 2.0
    most_s: float = 15.0
    doubt_s: float = 45.0


@dataclass
class _Watched:
    """What is known of one run that is waited for."""

    point: Point
    name: str
    state: State | None = None
    ended_s: float | None = None  # since when it looks ended
    order: int | None = None  # of its end among all
    said: tuple[str, str] = field(default=("", ""))


def watch(sweep: Sweep, jobs: Sequence[str], patience: Patience | None = None) -> int:
    """Wait until all jobs have ended; a requeued job has not.

    Args:
        sweep: of the jobs.
        jobs: their names.
        patience: how long to wait between questions.

    Returns:
        0 if all runs have finished, else the exit code of the first that failed; 130 after Ctrl-C, which leaves the
        jobs running.
    """
    patience = patience or Patience()
    points = [point for point in sweep.points if set(point.jobs) & set(jobs)]
    watched = [_Watched(*each) for each in zip(points, own_overrides(points), strict=True)]
    if not watched:
        return 0
    try:
        with _interruptible(), _shown() as show:
            pause_s = patience.first_s
            while True:
                _look(watched, patience)
                show.update(watched)
                if all(each.order is not None for each in watched):
                    break
                time.sleep(pause_s)
                pause_s = min(1.3 * pause_s, patience.most_s)
    except KeyboardInterrupt:
        _log.info(
            "the jobs go on; to look: make status SWEEP=%s; to end them: make cancel SWEEP=%s",
            *[sweep.home] * 2,
        )
        return _INTERRUPTED
    for line in _final_table(watched):
        _log.info("%s", line)
    ended = sorted(watched, key=lambda each: each.order or 0)
    return next((each.state.code for each in ended if each.state is not None and each.state.code), 0)


def _look(watched: Sequence[_Watched], patience: Patience) -> None:
    """Ask once for all runs that have not ended."""
    waiting = [each for each in watched if each.order is None]
    told, answer = states.survey([each.point for each in waiting])
    for each, state in zip(waiting, told, strict=True):
        each.state, now = state, time.monotonic()
        is_answered = answer.has_queue or state.is_certain  # a controller that is down tells no end
        if state.is_active or not is_answered:
            each.ended_s = None
            continue
        each.ended_s = now if each.ended_s is None else each.ended_s
        if state.is_certain or now - each.ended_s >= patience.doubt_s:
            each.order = sum(other.order is not None for other in watched)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have signals interrupt the waiting; what they mean to a training is of no use here."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in _STOP}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _shown() -> Iterator["_Lines | _Table"]:
    if not sys.stdout.isatty():
        yield _Lines()
        return
    with Live(console=Console(), auto_refresh=False) as live:
        yield _Table(live)
        live.update(Text(""), refresh=True)  # the final table follows


class _Lines:
    """A line for each change of a state."""

    def update(self, watched: Sequence[_Watched]) -> None:
        for each in watched:
            state = each.state
            is_doubtful = state is None or (not state.is_active and each.order is None)
            if state is None or is_doubtful or each.said == (state.word, state.reason):
                continue
            each.said = (state.word, state.reason)
            reason = f" ({state.reason})" if state.reason else ""
            _log.info(
                "%s  job %s  %s: %s%s", each.point.number, state.job, shortened(each.name), state.word, reason
            )


class _Table:
    """A table that is drawn again and again."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, watched: Sequence[_Watched]) -> None:
        under_way = sorted(watched, key=lambda each: each.order is not None)
        told = [each.state for each in under_way if each.state is not None]
        lines = text_table(HEADINGS, rows(told[:_MOST_ROWS]), NUMBERS)
        more = [f"... and {len(told) - _MOST_ROWS} more"] if len(told) > _MOST_ROWS else []
        footer = f"{summary(told)}; Ctrl-C leaves the jobs running"
        self._live.update(Text("\n".join([*lines, *more, footer]), no_wrap=True), refresh=True)


def _final_table(watched: Sequence[_Watched]) -> list[str]:
    told = [each.state for each in watched if each.state is not None]
    return [*text_table(HEADINGS, rows(told), NUMBERS), summary(told)]

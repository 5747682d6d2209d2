"""The record of a sweep, `sweep.json` in its folder: its points and their jobs, and what a launch is to submit.

    with Sweep.held(home) as sweep:            # other launches into this folder wait
        for planned in sweep.plan(wanted): ...
        sweep.record(planned, job, script, log)
        sweep.save()

`Sweep.open(home)` only reads, and leaves nothing behind.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.config.atomic import write_text
from pipeline.errors import LaunchError
from pipeline.launch.identity import horizon_of, identity_of
from pipeline.launch.slurm import states, turn
from pipeline.launch.slurm.point import Point, Submitted

__all__ = ["RECORD", "Planned", "Sweep", "Wanted", "find_home", "home_of", "horizon_of", "identity_of"]

RECORD = "sweep.json"
_log = logging.getLogger(__name__)
_VERSION = 1

NEW, UNFINISHED, IS_FINISHED, ACTIVE = "new", "unfinished", "finished", "active"


@dataclass(frozen=True)
class Wanted:
    """What a launch asks for at one point.

    Attributes:
        overrides: as written.
        identity: from `identity_of`.
        horizon: from `horizon_of`.
        directory: that the user has chosen; None: the sweep chooses.
    """

    overrides: tuple[str, ...]
    identity: str
    horizon: dict[str, Any]
    directory: Path | None


@dataclass(frozen=True)
class Planned:
    """What becomes of a wanted point.

    Attributes:
        number: within the sweep.
        directory: of the run.
        state: `new` and `unfinished` are to be submitted; `finished` and `active` (queued or running) are not.
        wanted: what was asked for, the very object.
        job: that is active, else the newest one; None for none.
    """

    number: int
    directory: Path
    state: str
    wanted: Wanted
    job: str | None


class Sweep:
    """The points of one sweep folder.

    Args:
        home: the folder; it need not exist.
        created: when the sweep began.
        points: in the order of their numbers.
        is_held: whether other launches wait for this one.
    """

    def __init__(self, home: Path, created: str, points: list[Point], *, is_held: bool = False) -> None:
        self.home = home
        self.created = created
        self.points = points
        self._is_held = is_held

    @classmethod
    def open(cls, home: Path) -> "Sweep":
        """Read the record of a folder; one without a record has no points.

        Raises:
            LaunchError: the record is damaged, or a newer version has written it.
        """
        home = Path(os.path.abspath(home))
        path = home / RECORD
        if not path.is_file():
            return cls(home, datetime.now(UTC).isoformat(timespec="microseconds"), [])
        try:
            record = json.loads(path.read_bytes())
            if record["version"] != _VERSION:
                raise LaunchError(f"{path}: written by another version ({record['version']}); use that one")
            return cls(home, record["created"], [Point.read(home, entry) for entry in record["points"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LaunchError(
                f"{path}: cannot be read ({error}); mend it, or choose another hydra.sweep.dir"
            ) from None

    @classmethod
    @contextmanager
    def held(cls, home: Path) -> Iterator["Sweep"]:
        """Hold a sweep folder, which is made where there is none: other launches into it wait.

        Raises:
            LaunchError: another launch holds it for long, the record is damaged, or the folder cannot be made.
        """
        home = Path(os.path.abspath(home))
        with turn.held(home):
            sweep = cls.open(home)
            sweep._is_held = True
            yield sweep
            sweep._is_held = False

    def plan(self, wanted: Sequence[Wanted]) -> list[Planned]:
        """Decide for each wanted point whether it is to be submitted, and where.

        A point is known again by its identity, not by its number; equal points become one.

        Raises:
            LaunchError: a chosen directory holds another run of this sweep, or the queue does not answer and a point
                might be submitted twice.
        """
        wanted, doubles = _merge(wanted)
        found = self._match(wanted)
        known = {index: point for index, point in enumerate(found) if point is not None}
        told, answer = states.survey([_extended(point, wanted[index]) for index, point in known.items()])
        for note in () if self._is_held else (*doubles, *answer.notes):  # the trial before the launch says it
            _log.info("note: %s", note)
        lost = next((state for state in told if state.word == states.LOST), None)
        if self._is_held and lost is not None and not answer.has_queue:
            raise LaunchError(
                f"{' '.join(answer.notes)}: job {lost.job} may still be active; try again later"
            )
        by_index = dict(zip(known, told, strict=True))
        taken = {point.number for point in self.points}
        planned = []
        for index, want in enumerate(wanted):
            if index in by_index:
                planned.append(_planned_again(by_index[index], want))
                continue
            number = index if self._is_free(index, taken) else self._next_number(taken)
            taken.add(number)
            directory = (want.directory or self.home / str(number)).absolute()
            planned.append(Planned(number, directory, NEW, want, None))
        return planned

    def record(self, planned: Planned, job: str, script: Path, log: str) -> None:
        """Note a job that was submitted for a point."""
        want = planned.wanted
        point = next((point for point in self.points if point.number == planned.number), None)
        if point is None:
            point = Point(planned.number, planned.directory, want.overrides, want.identity, want.horizon)
            self.points.append(point)
            self.points.sort(key=lambda point: point.number)
        point.overrides, point.horizon = want.overrides, want.horizon
        point.submissions.append(Submitted(job, script.absolute(), log))

    def save(self) -> None:
        """Write the record, whole or not at all; may be called after each job."""
        assert self._is_held, "Sweep.held keeps another launch from writing in between"
        points = [point.entry(self.home) for point in self.points]
        record = {"version": _VERSION, "created": self.created, "points": points}
        write_text(self.home / RECORD, json.dumps(record, indent=1) + "\n")

    def _match(self, wanted: Sequence[Wanted]) -> list[Point | None]:
        """Return the recorded point of each wanted one: of equal identity, and of several the most alike."""
        found: list[Point | None] = [None] * len(wanted)
        pairs = [
            (-_likeness(want, point), index, point.number, point)
            for index, want in enumerate(wanted)
            for point in self.points
            if self._may_be(want, point)
        ]
        used: set[int] = set()
        for _, index, number, point in sorted(pairs, key=lambda pair: pair[:3]):
            if found[index] is None and number not in used:
                found[index] = point
                used.add(number)
        return found

    @staticmethod
    def _may_be(want: Wanted, point: Point) -> bool:
        is_there = want.directory is not None and want.directory.absolute() == point.directory
        if is_there and want.identity != point.identity:
            raise LaunchError(
                f"{point.directory}: holds another run, submitted as {' '.join(point.overrides) or 'no overrides'}; "
                "choose another run.dir, or leave it out"
            )
        return want.identity == point.identity and (want.directory is None or is_there)

    def _is_free(self, number: int, taken: set[int]) -> bool:
        return number not in taken and not (self.home / str(number)).exists()

    def _next_number(self, taken: set[int]) -> int:
        start = max(taken, default=-1) + 1
        return next(number for number in count(start) if self._is_free(number, taken))


def find_home(root: Path, identities: Iterable[str]) -> Path | None:
    """Return the newest sweep folder under a root that has a point of one of these identities, None for none.

    Args:
        root: folder of all runs of a name.
        identities: from `identity_of`.
    """
    asked = set(identities)
    found = []
    for path in root.glob(f"sweep_*/{RECORD}"):
        try:
            sweep = Sweep.open(path.parent)
        except LaunchError as error:
            _log.info("note: passes over a sweep: %s", error)
            continue
        if any(point.identity in asked for point in sweep.points):
            found.append((sweep.created, path.parent))
    return max(found)[1] if found else None


def home_of(run_dir: Path) -> Path | None:
    """Return the sweep folder that a run belongs to, None for a run that was not submitted."""
    run_dir = Path(os.path.abspath(run_dir))
    return next((home for home in (run_dir, run_dir.parent) if (home / RECORD).is_file()), None)


def _merge(wanted: Sequence[Wanted]) -> tuple[list[Wanted], list[str]]:
    """Make one of points that are the same, with a line for each; those that differ in overrides stay apart."""
    kept: dict[tuple[Any, ...], Wanted] = {}
    doubles = []
    for want in wanted:
        key = (want.identity, frozenset(want.overrides), want.directory)
        if key in kept:
            doubles.append(f"{' '.join(want.overrides) or 'the same point'}: asked for twice, submitted once")
        kept.setdefault(key, want)
    return list(kept.values()), doubles


def _likeness(want: Wanted, point: Point) -> int:
    """Return how many overrides two points share, and more for equal ones."""
    shared = len(set(want.overrides) & set(point.overrides))
    return shared + (set(want.overrides) == set(point.overrides))


def _extended(point: Point, want: Wanted) -> Point:
    """Return a recorded point with the horizon that is wanted now."""
    return Point(
        point.number, point.directory, want.overrides, point.identity, want.horizon, point.submissions
    )


def _planned_again(state: states.State, want: Wanted) -> Planned:
    word = UNFINISHED if state.facts.exists else NEW
    if state.is_active:
        word = ACTIVE
    elif state.word == states.FINISHED:
        word = IS_FINISHED
    return Planned(state.point.number, state.point.directory, word, want, state.job)

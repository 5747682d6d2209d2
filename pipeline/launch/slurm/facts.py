"""What a run directory tells of its run: how far it is, what ended it, and what its jobs went through."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRESS = "progress.json"
FAILURE = Path(".job") / "failure"
HISTORY = Path(".job") / "history"

_NO_HORIZON = (None, -1)
_LIMITS = (("max_epochs", "epoch"), ("max_steps", "step"))


@dataclass(frozen=True)
class Event:
    """One line of a run's history.

    Attributes:
        time: as written.
        job: `12`, or `12_3`.
        restart: how often the job had been restarted.
        text: what happened: `start node1,node2`, `successor JOB`, `requeued REASON`, `chained JOB REASON`,
            `left STATE` (SLURM has decided), `finished`, `failed CODE`, `gave up REASON`.
    """

    time: str
    job: str
    restart: int
    text: str


@dataclass(frozen=True)
class Failure:
    """The genuine error that ended a run.

    Attributes:
        job: in which it happened.
        code: exit code of the training.
        reason: one sentence.
    """

    job: str
    code: int
    reason: str


@dataclass(frozen=True)
class Facts:
    """What a run directory tells.

    Attributes:
        exists: whether there is a run directory.
        progress: progress.json; empty where there is none yet.
        failure: the genuine error that ended the newest attempt, if one did.
        history: of the jobs, oldest first.
    """

    exists: bool
    progress: dict[str, Any]
    failure: Failure | None
    history: tuple[Event, ...]

    @property
    def jobs(self) -> tuple[str, ...]:
        """Names of all jobs in the history, oldest first, the successors in a chain included."""
        names: dict[str, None] = {}
        for event in self.history:
            names[event.job] = None
            if (successor := _successor(event)) is not None:
                names[successor] = None
        return tuple(names)

    @property
    def restarts(self) -> int:
        """How often the newest submission was restarted, in its job or a successor."""
        return self.history[-1].restart if self.history else 0

    @property
    def trained_last(self) -> str | None:
        """The job that has started last."""
        return next((event.job for event in reversed(self.history) if event.text.startswith("start")), None)

    @property
    def last_return(self) -> str:
        """Why the run was restarted last, or is about to be; empty if it was not."""
        events = [event for event in self.history if not event.text.startswith("successor")]
        if events and events[-1].text.startswith("start"):
            if events[-1].restart == 0:
                return ""
            events.pop()
        if not events:
            return ""
        text = events[-1].text
        if text.startswith(("requeued", "chained")):
            return text
        return "preempted or requeued by SLURM" if text.startswith(("start", "left")) else ""

    def has_finished(self, horizon: dict[str, Any]) -> bool:
        """Whether the run has come as far as a horizon asks for.

        Args:
            horizon: `max_epochs` and `max_steps`.
        """
        progress = self.progress
        if progress.get("state") != "finished":
            return False
        if progress["horizon"] == horizon:
            return True
        return any(
            horizon[limit] not in _NO_HORIZON and progress[unit] >= horizon[limit] for limit, unit in _LIMITS
        )


def read(directory: Path) -> Facts:
    """Read what a run directory tells; a file that is missing or damaged tells nothing."""
    return Facts(
        exists=directory.is_dir(),
        progress=_read_progress(directory / PROGRESS),
        failure=_read_failure(directory / FAILURE),
        history=tuple(_read_history(directory / HISTORY)),
    )


def _read_progress(path: Path) -> dict[str, Any]:
    record = _read_json(path)
    return record if record.keys() >= {"state", "step", "epoch", "horizon"} else {}


def _read_failure(path: Path) -> Failure | None:
    record = _read_json(path)
    if not record.keys() >= {"job", "code", "reason"} or not isinstance(record["code"], int):
        return None
    return Failure(str(record["job"]), record["code"], " ".join(str(record["reason"]).split()))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _read_history(path: Path) -> list[Event]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    fields = [line.split("\t", 3) for line in lines]
    return [
        Event(entry[0], entry[1], int(entry[2]), entry[3].strip())
        for entry in fields
        if len(entry) == 4 and entry[2].isdecimal()  # a kill may cut a line short
    ]


def _successor(event: Event) -> str | None:
    words = event.text.split()
    return words[1] if len(words) > 1 and words[0] in ("successor", "chained") else None

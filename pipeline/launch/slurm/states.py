"""The state of a run, from its directory and from what SLURM says of its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch import lock
from pipeline.launch.slurm import accounting, facts
from pipeline.launch.slurm.accounting import UNKNOWN, Answer, Job
from pipeline.launch.slurm.facts import Facts
from pipeline.launch.slurm.point import Point

QUEUED, RUNNING = "queued", "running"
FINISHED, FAILED, CANCELLED, STOPPED, LOST = "finished", "failed", "cancelled", "stopped", "unknown"
ACTIVE = (QUEUED, RUNNING)

_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")
_RECORDED_ENDS = ("finished", "failed", "gave up")


@dataclass(frozen=True)
class State:
    """How it stands with one run.

    Attributes:
        point: the run.
        facts: what its directory tells.
        word: queued, running, finished, failed, cancelled, stopped (before its horizon, and nothing goes on with
            it), or unknown (SLURM has not said yet how its job ended).
        job: the job that decides; None for a run that was not submitted.
        active: names of its jobs that are queued or running, successors in a chain included.
        reason: why, in a few words; may be empty.
        code: exit code of a run that failed or was cancelled, else 0.
        is_certain: whether the run directory and SLURM leave no doubt: an end that is not certain may still turn
            out to be a restart.
    """

    point: Point
    facts: Facts
    word: str
    job: str | None
    active: tuple[str, ...]
    reason: str
    code: int
    is_certain: bool

    @property
    def is_active(self) -> bool:
        """Whether a job of the run is queued or running."""
        return self.word in ACTIVE


def survey(points: Sequence[Point]) -> tuple[list[State], Answer]:
    """Return how it stands with runs, asking SLURM once for all of their jobs."""
    told = [facts.read(point.directory) for point in points]
    names = [dict.fromkeys((*point.jobs, *fact.jobs)) for point, fact in zip(points, told, strict=True)]
    answer = accounting.ask(name for jobs in names for name in jobs)
    return [_judge(*each, answer) for each in zip(points, told, map(tuple, names), strict=True)], answer


def _judge(point: Point, told: Facts, names: tuple[str, ...], answer: Answer) -> State:
    active = tuple(name for name in names if name in answer.jobs and answer.jobs[name].is_active)
    decisive = _decisive(point, told, names)
    job = answer.jobs.get(decisive) if decisive is not None else None
    if active:
        word, decisive, reason = _describe_active([answer.jobs[name] for name in active], told)
        return State(point, told, word, decisive, active, reason, 0, is_certain=True)
    if told.has_finished(point.horizon):
        return State(point, told, FINISHED, decisive, (), "", 0, is_certain=True)
    word, reason, code, is_certain = _describe_end(point.directory, told, decisive, job, answer)
    return State(point, told, word, decisive, (), reason, code, is_certain)


def _decisive(point: Point, told: Facts, names: Sequence[str]) -> str | None:
    """Return the job whose end is the run's: the one that trained last, or a newer one that never started."""
    newest = point.jobs[-1] if point.jobs else None
    if newest is not None and newest not in told.jobs:
        return newest
    return told.trained_last or (names[-1] if names else None)


def _describe_active(jobs: Sequence[Job], told: Facts) -> tuple[str, str, str]:
    """Return the state, its job and the reason, from the active jobs of a run; in a chain the others wait."""
    at_work = [job for job in jobs if job.state not in _WAITING]
    if at_work:
        return RUNNING, at_work[0].name, told.last_return
    job = jobs[0]
    reasons = [reason for reason in (job.reason, told.last_return) if reason]
    return QUEUED, job.name, "; ".join(reasons)


def _describe_end(
    directory: Path, told: Facts, name: str | None, job: Job | None, answer: Answer
) -> tuple[str, str, int, bool]:
    """Return state, reason, exit code and certainty of a run without an active job that has not finished."""
    if told.failure is not None and name in (None, told.failure.job):
        return FAILED, told.failure.reason, told.failure.code, True
    if name is None:
        return _describe_local(directory, told)
    last = told.history[-1] if told.history else None
    if last is not None and last.job == name and last.text.startswith(("gave up", "failed")):
        return FAILED, last.text, _code(job, last.text), True
    if job is None and not answer.has_queue or job is not None and job.state == UNKNOWN:
        return LOST, "SLURM has not said yet how its job ended", 1, False
    if job is not None and job.state == "CANCELLED":
        return CANCELLED, "scancel", job.code or 1, True
    if job is None and name not in told.jobs:
        return CANCELLED, "gone from SLURM before it began", 1, False
    if job is None:
        return STOPPED, last.text if last else "its job has ended", 1, False
    if job.state == "COMPLETED":
        return STOPPED, "its job has ended before the horizon", 1, False
    return FAILED, _ended(job), _code(job, ""), False


def _describe_local(directory: Path, told: Facts) -> tuple[str, str, int, bool]:
    """Describe a run that no job was submitted for: one that is trained here, or a point that waits for its turn."""
    try:
        owner = lock.living_owner(directory) if (directory / ".lock").is_file() else None
    except LaunchError:  # not ours to look into
        owner = None
    if owner is not None:
        return RUNNING, owner.partition(" (")[0], 0, True
    if not told.exists:
        return STOPPED, "not begun", 1, True
    state = told.progress.get("state")
    return (FAILED if state == "failed" else STOPPED), "", 1, True


def _ended(job: Job) -> str:
    if job.signal:
        return f"{job.state} by signal {job.signal}"
    return job.state if not job.exit_code else f"{job.state}, exit code {job.exit_code}"


def _code(job: Job | None, text: str) -> int:
    """Return the exit code that SLURM knows, or the one in a text like `failed 3`; 1 where nobody tells."""
    if job is not None and job.code:
        return job.code
    word, _, code = text.partition(" ")
    return int(code) if word == "failed" and code.isdecimal() and int(code) else 1

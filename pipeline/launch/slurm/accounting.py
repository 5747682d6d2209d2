"""What SLURM says of jobs: one question to its queue and one to its accounting, for any number of jobs."""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

_PATIENCE_S = 20.0  # of one question; a controller that is down answers nothing
_ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
UNKNOWN = "UNKNOWN"
"""The state of a job that has left the queue and of whose end the accounting does not know (yet)."""

_NAME = re.compile(r"\d+(_\d+)?")
_TASKS = re.compile(r"(?P<job>\d+)_\[(?P<tasks>[^\]%]*)(%\d+)?\]")
_NO_SUCH_JOB = "Invalid job id"


@dataclass(frozen=True)
class Job:
    """One job, or one task of an array.

    Attributes:
        name: `12`, or `12_3` for a task; never a task's raw number.
        state: in SLURM's words, like `RUNNING`.
        reason: why it waits, in SLURM's words; empty where there is none.
        exit_code: of the batch script; None where the accounting does not tell.
        signal: that ended the batch script, 0 if none.
    """

    name: str
    state: str
    reason: str = ""
    exit_code: int | None = None
    signal: int = 0

    @property
    def is_active(self) -> bool:
        """Whether the job is queued, running, or between the two."""
        return self.state != UNKNOWN and self.state not in _ENDED

    @property
    def code(self) -> int | None:
        """The exit code as a shell says it: 128 and the number of a signal."""
        return 128 + self.signal if self.signal else self.exit_code


@dataclass(frozen=True)
class Answer:
    """What is known of the jobs that were asked for.

    Attributes:
        jobs: name -> job, of those that SLURM knows. A task that is cancelled before it begins leaves no trace.
        has_queue: whether the queue answered: a job that it does not know is not active then.
        has_accounts: whether the accounting answered.
        notes: lines to print.
    """

    jobs: dict[str, Job]
    has_queue: bool
    has_accounts: bool
    notes: tuple[str, ...] = ()


def ask(names: Iterable[str]) -> Answer:
    """Ask SLURM for jobs by their names (`12`, `12_3`); no job, no question."""
    wanted = {name for name in names if _NAME.fullmatch(name)}
    if not wanted:
        return Answer({}, has_queue=True, has_accounts=True)
    numbers = ",".join(sorted({name.partition("_")[0] for name in wanted}, key=int))
    queue = _Question(
        "squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={numbers}"
    )
    accounts = _Question(
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,State,ExitCode",
        f"--jobs={numbers}",
    )
    queued, has_queue = queue.answer()
    accounted, has_accounts = accounts.answer()
    notes = []
    if not has_queue and not has_accounts:
        notes.append(
            f"SLURM cannot be asked here ({queue.problem}); what follows is from the run directories alone"
        )
    elif not has_accounts:
        notes.append(
            f"no accounting ({accounts.problem}); ended jobs are known from the run directories alone"
        )
    elif not has_queue:
        notes.append(
            f"the queue cannot be asked ({queue.problem}); states are from the accounting, and may lag"
        )
    now = {job.name: job for line in queued for job in _queued(line)}
    past = {job.name: job for line in accounted for job in _accounted(line)}
    for name in wanted - past.keys():
        array = past.get(name.partition("_")[0])
        if (
            array is not None
        ):  # one that was cancelled before any of its tasks began has no tasks in the accounting
            past[name] = replace(array, name=name)
    jobs = {name: _one_word(name, now.get(name), past.get(name), has_queue) for name in wanted}
    known = {name: job for name, job in jobs.items() if job is not None}
    return Answer(known, has_queue, has_accounts, tuple(notes))


def _one_word(name: str, now: Job | None, past: Job | None, has_queue: bool) -> Job | None:
    """Return what both say together: the queue of what is, the accounting of what was."""
    if now is not None and now.is_active:
        return now
    if now is not None:
        return past if past is not None and past.state == now.state else now
    if past is not None and past.is_active and has_queue:
        return Job(name, UNKNOWN)  # it has left the queue a moment ago, or its end was never recorded
    return past


class _Question:
    """A command under way."""

    def __init__(self, *command: str) -> None:
        self.problem = ""
        environment = os.environ | {"SLURM_BITSTR_LEN": "0", "LC_ALL": "C"}  # task lists are not cut short
        try:
            self._process: subprocess.Popen[str] | None = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            self._process = None
            self.problem = f"{command[0]}: {error.strerror}"

    def answer(self) -> tuple[list[str], bool]:
        """Return the lines, and whether they are an answer."""
        if self._process is None:
            return [], False
        try:
            output, errors = self._process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            self.problem = f"no answer within {_PATIENCE_S:g} s"
            return [], False
        if self._process.returncode != 0 and _NO_SUCH_JOB not in errors:
            self.problem = (errors.strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
            return [], False
        return [line for line in output.splitlines() if line.count("|") >= 2], True


def _queued(line: str) -> Iterator[Job]:
    """Read a line like `12_3|PENDING|Priority`."""
    name, state, reason = (part.strip() for part in line.split("|", 2))
    for task in expand(name):
        yield Job(task, state, "" if reason == "None" else reason)


def _accounted(line: str) -> Iterator[Job]:
    """Read a line like `12_[3-5%2]|CANCELLED by 1000|0:15`."""
    name, state, ended = line.split("|", 2)
    code, _, signal = ended.partition(":")
    for task in expand(name):
        yield Job(task, state.split()[0], exit_code=int(code or 0), signal=int(signal or 0))


def expand(name: str) -> Iterator[str]:
    """Yield the tasks that SLURM writes as one: `12_[0-4:2,7%3]` is 12_0, 12_2, 12_4, 12_7."""
    found = _TASKS.fullmatch(name)
    if found is None:
        yield name
        return
    for part in filter(None, found["tasks"].split(",")):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        for task in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{found['job']}_{task}"

"""The record of a genuine error: with it in the run directory slurm/job.sh ends the job, without it it comes back."""

import json
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import PipelineError
from pipeline.launch.preemption import RESUME_EXIT_CODE, stop_signals
from pipeline.training.ranks.host import host_name
from pipeline.training.ranks.loss import is_loss

_log = logging.getLogger(__name__)
_FAILURE = 1
_LONGEST_REASON = 2000
_ENDS_WELL = (None, 0, RESUME_EXIT_CODE)


def job_folder(run_dir: Path) -> Path:
    """Return the folder where the jobs of a run keep their records."""
    return run_dir / ".job"


def read(run_dir: Path) -> dict[str, Any] | None:
    """Return the error that the newest attempt has ended with: job, restart, rank, host, code, reason; None for none.

    Args:
        run_dir: directory of the run.
    """
    try:
        record = json.loads((job_folder(run_dir) / "failure").read_bytes())
    except (OSError, ValueError):  # none, or one that a full disk has cut short
        return None
    return record if isinstance(record, dict) else None


class Judged:
    """A context that tells an error of the run from the loss of something else, for the job to go by.

    An error of its own is recorded, the first one of all ranks; it goes on as it was raised. Another rank that is gone,
    and whatever is raised once the run was asked to stop, leaves with the code that asks for another start.

    Args:
        run_dir: directory of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and error.code in _ENDS_WELL):
            if isinstance(error, SystemExit) and error.code == RESUME_EXIT_CODE:
                self._write("reason", f"stopped by {stop_signals.received or 'max_time or another rank'}")
            return
        # a rank that leaves the words to others gives its reason as the cause
        reason = error.__cause__ or error if isinstance(error, SystemExit) else error
        if stop_signals.received is not None or is_loss(reason):
            said = f"{type(reason).__name__}: {reason}"
            is_known = isinstance(reason, PipelineError)
            _log.warning("not an error of this run: %s", said, exc_info=None if is_known else reason)
            self._write("reason", said.splitlines()[0])
            raise SystemExit(RESUME_EXIT_CODE) from error
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else _FAILURE
        self._record(code, f"{type(reason).__name__}: {reason}")

    def _record(self, code: int, reason: str) -> None:
        record = {
            "job": os.environ["EULER_JOB"],
            "restart": int(os.environ["EULER_RESTART"]),
            "rank": int(os.environ["RANK"]),
            "host": host_name(),
            "code": code,
            "reason": reason[:_LONGEST_REASON],
        }
        self._write("failure", json.dumps(record))

    def _write(self, name: str, line: str) -> None:
        path = job_folder(self._run_dir) / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except FileExistsError:  # another rank has ended before, and may have taken this one along
            return
        except OSError as problem:
            _log.error("%s: cannot be written (%s)", path, problem.strerror)

"""The lock of a run directory: two runs never train in one, and no process of a killed run is overlooked."""

import errno
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import LaunchError

_log = logging.getLogger(__name__)

_ORPHANS_S = 15.0  # after its owner's death a lock is held by processes that are being killed
_UNNAMED_S = 2.0  # between taking a lock and writing a name into it
_POLL_S = 0.1
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that has no locks."""
_OWNER = re.compile(r"process (?P<pid>\d+) on (?P<host>\S+) \(start (?P<start>\d+)\)")


@contextmanager
def hold(run_dir: Path, patience_s: float = 0.0) -> Iterator[int]:
    """Hold a run's exclusive lock; the operating system releases it when the last process that has it is gone.

    Args:
        run_dir: existing directory.
        patience_s: how long to wait for a living process that has it: the attempt of a job that is ending elsewhere.

    Yields:
        The descriptor, for the processes of this run.

    Raises:
        LaunchError: another process trains in this directory, or it cannot be written.
    """
    with _opened(run_dir) as file:
        _acquire(file, run_dir, patience_s)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} (start {_start_of(os.getpid()) or 0})\n")
        file.flush()
        try:
            yield file.fileno()
        finally:
            _release(file)


def living_owner(run_dir: Path) -> str | None:
    """Return who trains in a directory; None if nobody does, or only the dying rest of a run."""
    with _opened(run_dir) as file:
        if _taken(file):
            _release(file)
            return None
        owner = _read_owner(file)
        return None if _has_died(owner) else owner


def holder(run_dir: Path) -> str | None:
    """Return who trains in a directory that may be read-only, without a trace in it; None if nobody does.

    Args:
        run_dir: existing directory.

    Raises:
        OSError: its lock cannot be read.
    """
    path = run_dir / ".lock"
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_owner(file) or "unknown"
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        return None


def _opened(run_dir: Path) -> IO[str]:
    try:
        return (run_dir / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise LaunchError(
            f"run.dir={run_dir}: cannot be written ({error.strerror}); choose a folder of yours"
        ) from None


def _acquire(file: IO[str], run_dir: Path, least_s: float) -> None:
    began, said = time.monotonic(), False
    while not _taken(file):
        owner = _read_owner(file)
        died = _has_died(owner)
        patience_s = max(least_s, _ORPHANS_S if died else 0.0 if owner else _UNNAMED_S)
        if time.monotonic() - began >= patience_s:
            raise LaunchError(
                f"run.dir={run_dir}: another process trains in this directory ({owner or 'unknown'}); "
                "wait for it, stop it, or leave run.dir out for a fresh directory"
            )
        if not said and (died or least_s):
            said = True
            who = f"{owner} has ended" if died else f"{owner or 'another process'} trains here"
            whom = "the last of its processes" if died else "its end"
            _log.info("%s: %s; waiting for %s for at most %.0f s", run_dir, who, whom, patience_s)
        time.sleep(_POLL_S)


def _taken(file: IO[str]) -> bool:
    """Try to take the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        _log.warning(
            "%s: this file system has no locks (%s); start no second process here", file.name, error.strerror
        )
    return True


def _release(file: IO[str]) -> None:
    """Give the lock back for all who share it, and leave no name of one who has it no more."""
    file.truncate(0)
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def _read_owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip()


def _has_died(owner: str) -> bool:
    """Whether an owner's process is known to be gone: only its own host can tell."""
    found = _OWNER.fullmatch(owner)
    if found is None or found["host"] != socket.gethostname():
        return False
    return _start_of(int(found["pid"])) != (int(found["start"]) or None)


def _start_of(process: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None for one that is gone or about to be."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])

"""What the system knows of the processes of a run: who they are, what signals they catch, whether any is left."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MARKER_VARIABLE = "EULER_CHAOS_CASE"
_PROC = Path("/proc")


@dataclass(frozen=True)
class Member:
    """One living process of a run."""

    process: int
    parent: int


def members(marker: str, session: int | None) -> list[Member]:
    """Return the living processes of a run.

    Args:
        marker: value of EULER_CHAOS_CASE that the run was started with.
        session: process id that leads the session of a forked run, whose environment the system does not see.
    """
    wanted, found = f"{MARKER_VARIABLE}={marker}".encode(), []
    for folder in _PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            state, parent, its_session = stat[0], int(stat[1]), int(stat[3])
            if state in "ZX":
                continue
            is_member = its_session == session or wanted in (folder / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended meanwhile, or is not ours
            continue
        if is_member:
            found.append(Member(int(folder.name), parent))
    return found


def catches(process: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler of its own for a signal."""
    try:
        status = (_PROC / str(process) / "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def send(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def wait_for_none(marker: str, session: int | None, timeout_s: float) -> list[Member]:
    """Wait until no process of a run is left; return those that stay."""
    deadline = time.monotonic() + timeout_s
    while left := members(marker, session):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []

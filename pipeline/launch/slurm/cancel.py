"""`make cancel`: end the jobs of a run or a sweep, and their successors; none of them comes back."""

import argparse
import subprocess
import time
from collections.abc import Iterable, Sequence

from pipeline.errors import LaunchError
from pipeline.launch.slurm import states
from pipeline.launch.slurm.cli import run_command, say
from pipeline.launch.slurm.point import Point
from pipeline.launch.slurm.targets import add_targets, chosen

_PATIENCE_S = 60.0
_LOOKS = 3  # a job that is just starting may queue its successor while it is being cancelled
_BETWEEN_S = 1.0


def cancel(points: Sequence[Point]) -> list[str]:
    """Cancel every active job of runs, successors in a chain first.

    Returns:
        Their names.

    Raises:
        LaunchError: SLURM cannot be asked, or does not cancel.
    """
    cancelled: dict[str, None] = {}
    for look in range(_LOOKS):
        told, answer = states.survey(points)
        if not answer.has_queue:
            raise LaunchError(f"{' '.join(answer.notes)}; cancel on a login node of the cluster")
        names = [name for state in told for name in reversed(state.active) if name not in cancelled]
        if not names:
            break
        _scancel(names)
        cancelled.update(dict.fromkeys(names))
        if look < _LOOKS - 1:
            time.sleep(_BETWEEN_S)
    return list(cancelled)


def _scancel(names: Iterable[str]) -> None:
    command = ["scancel", *names]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"scancel: {error}; cancel on a login node of the cluster") from None
    if ended.returncode != 0:
        raise LaunchError(f"scancel: {ended.stderr.strip()}")


def _cancel(arguments: argparse.Namespace) -> int:
    names = cancel([point for sweep in chosen(arguments) for point in sweep.points])
    say(f"cancelled: {', '.join(names)}" if names else "nothing to cancel: no job is queued or running")
    return 0


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="make cancel", description=__doc__)
    add_targets(command, required=True)
    run_command(command, _cancel)

"""`make logs`: what the job of a run wrote, or its first rank where no job did."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.slurm import facts
from pipeline.launch.slurm.cli import run_command
from pipeline.launch.slurm.point import Point
from pipeline.launch.slurm.targets import one_run


def log_files(point: Point) -> list[Path]:
    """Return the logs of a run that there are: that of its newest job, which holds that of rank 0, or rank 0's own.

    A job and its restarts share one; a successor in a chain has one of its own beside it.
    """
    if point.submissions:
        folder = Path(point.submissions[-1].log).parent
        names = dict.fromkeys((*point.jobs, *facts.read(point.directory).jobs))
        written = [path for path in (folder / f"{name}.log" for name in names) if path.is_file()]
        if written:
            return [max(written, key=lambda path: path.stat().st_mtime_ns)]
    ranks = point.directory.glob("logs/rank-*.log")
    return sorted(ranks, key=lambda path: (len(path.name), path.name))[:1]


def _show(arguments: argparse.Namespace) -> int:
    (point,) = one_run(arguments.run).points
    files = log_files(point)
    if not files:
        waits = (
            f"; its job {point.jobs[-1]} has not begun: make status RUN={point.directory}"
            if point.jobs
            else ""
        )
        raise LaunchError(f"RUN={point.directory}: no log yet{waits}")
    tail = shutil.which("tail")
    if tail is None:
        raise LaunchError(f"tail: no such command here; the logs are {', '.join(map(str, files))}")
    sys.stdout.flush()
    follow = ["-F"] if arguments.follow else []
    os.execv(tail, [tail, "-v", "-n", str(arguments.lines), *follow, *map(str, files)])


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="make logs", description=__doc__)
    command.add_argument("--run", type=Path, metavar="DIR", required=True, help="a run directory")
    command.add_argument("--lines", type=int, default=100, metavar="N", help="the last N lines of each (100)")
    command.add_argument("--follow", action="store_true", help="go on with what is written")
    run_command(command, _show)

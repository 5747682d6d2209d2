"""Which runs a command of daily work means: one run, a sweep, or all sweeps."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.slurm import facts
from pipeline.launch.slurm.point import Point
from pipeline.launch.slurm.sweep import RECORD, Sweep, home_of

_CONFIG = "config.yaml"
_OVERRIDES = Path(".hydra") / "overrides.yaml"
_DEPTH = 6  # of a sweep folder below the root of all runs; names of runs may hold slashes


def add_targets(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add `--run` and `--sweep` to a command line."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--run", type=Path, metavar="DIR", help="a run directory")
    group.add_argument("--sweep", type=Path, metavar="DIR", help="a sweep folder")


def chosen(arguments: argparse.Namespace) -> list[Sweep]:
    """Return the sweeps that the arguments of `add_targets` mean, with the points that they mean.

    Raises:
        LaunchError: no run or sweep is there.
    """
    if arguments.run is not None:
        return [one_run(arguments.run)]
    if arguments.sweep is not None:
        return [_one_sweep(arguments.sweep)]
    root = runs_root()
    return sorted((Sweep.open(home) for home in _homes(root, _DEPTH)), key=lambda sweep: sweep.created)


def runs_root() -> Path:
    """Return the root of all runs."""
    return Path(os.environ.get("EULER_RUNS") or "runs").expanduser().absolute()


def one_run(run_dir: Path) -> Sweep:
    """Return the sweep of a run with this run as its only point.

    Raises:
        LaunchError: no run is there.
    """
    run_dir = _absolute(run_dir)
    home = home_of(run_dir)
    if home is not None:
        sweep = Sweep.open(home)
        points = [point for point in sweep.points if point.directory == run_dir]
        if points:
            return Sweep(home, sweep.created, points)
        if len(sweep.points) > 1 and home == run_dir:
            raise LaunchError(
                f"RUN={run_dir}: a sweep of {len(sweep.points)} runs; give RUN={run_dir}/NUMBER"
            )
    if not (run_dir / _CONFIG).is_file():
        raise LaunchError(
            f"RUN={run_dir}: no run; valid: a run directory, `make status` lists those of sweeps"
        )
    return Sweep(run_dir, "", [_unrecorded(0, run_dir)])


def _one_sweep(home: Path) -> Sweep:
    home = _absolute(home)
    if (home / RECORD).is_file():
        return Sweep.open(home)
    runs = sorted((path.parent for path in home.glob(f"*/{_CONFIG}")), key=_natural)
    if not runs:
        raise LaunchError(f"SWEEP={home}: no sweep; valid: a folder of runs, `make status` lists them all")
    return Sweep(home, "", [_unrecorded(number, run) for number, run in enumerate(runs)])


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # links stay as they are


def _natural(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isdecimal() else -1, path.name)


def _unrecorded(number: int, run_dir: Path) -> Point:
    """Return a run that was not submitted, as a point without jobs."""
    progress = facts.read(run_dir).progress
    horizon = progress["horizon"] if progress else {"max_epochs": None, "max_steps": None}
    try:
        lines = (run_dir / _OVERRIDES).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    overrides = tuple(line.removeprefix("- ").strip("'\"") for line in lines if line.startswith("- "))
    return Point(number, run_dir, overrides, "", horizon)


def _homes(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the sweep folders below a folder; what lies in a run or in a sweep is no other sweep."""
    if (folder / RECORD).is_file():
        yield folder
        return
    if depth == 0 or (folder / _CONFIG).is_file():
        return
    try:
        inner = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:  # not ours to look into, or gone
        return
    for path in inner:
        yield from _homes(Path(path), depth - 1)


def own_overrides(points: Sequence[Point]) -> list[str]:
    """Return for each run the overrides that not all of them have."""
    common = set.intersection(*(set(point.overrides) for point in points)) if len(points) > 1 else set()
    return [" ".join(entry for entry in point.overrides if entry not in common) for point in points]

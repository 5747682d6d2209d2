"""How long the daily commands take on a cluster: a preview of a sweep, and the state of a sweep of many tasks.

    make slurm-up && export SLURM_CONF=...     # or any SLURM that you may submit to
    python benchmarks/slurm_daily.py --folder /shared/somewhere --tasks 200 --json daily.json

It submits real array tasks whose program only writes a finished run's record, and the last four of which run on.
The claims: `make status` on 200 finished and running tasks in less than 2 s, a preview in less than 3 s; medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
_RUNNING = 4
_PATIENCE_S = 900
_FINISHED = {"state": "finished", "step": 4, "epoch": 1, "horizon": {"max_epochs": 1}, "steps_per_s": 3.0}
_FINISHED |= {"monitor": "val/sisdr", "best": 1.0, "updated": "2026-01-01T00:00:00+00:00"}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, help="a shared folder; default: a temporary one on this machine"
    )
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--launcher", nargs="*", default=[], help="e.g. hydra.launcher.partition=short")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="slurm-daily-") as folder:
        os.chmod(folder, 0o755)
        measured = measure(Path(folder), arguments.tasks, arguments.repeats, arguments.launcher)
    table = Table("command", "median s", "slowest s", "claimed s")
    for name, claimed_s in (("preview", 3.0), ("status", 2.0)):
        times = measured[name]
        table.add_row(name, f"{statistics.median(times):.2f}", f"{max(times):.2f}", f"{claimed_s:g}")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"tasks": arguments.tasks, **measured}, indent=2) + "\n")


def measure(folder: Path, tasks: int, repeats: int, launcher: list[str]) -> dict[str, list[float]]:
    """Return the seconds that each command took, each time.

    Args:
        folder: seen by all nodes.
        tasks: of the array.
        repeats: of each command.
        launcher: further arguments.

    Raises:
        RuntimeError: a command failed, or the tasks do not end.
    """
    home = folder / "sweep"
    sweep = [*_submission(home, launcher), f"hydra.launcher.python={_stand_in(folder, tasks)}"]
    preview = [*_submission(home, launcher), "trainer.seed=1,2", "hydra.launcher.dry_run=true"]
    status = [sys.executable, "-m", "pipeline.launch.slurm.status", "--sweep", str(home)]
    measured = {"preview": [_time(preview) for _ in range(repeats)]}
    try:
        _time([*sweep, f"trainer.seed={','.join(map(str, range(tasks)))}"])
        _wait_for_ends(home, tasks - _RUNNING)
        measured["status"] = [_time(status, rows=tasks) for _ in range(repeats)]
    finally:
        if (home / "sweep.json").exists():
            _time([sys.executable, "-m", "pipeline.launch.slurm.cancel", "--sweep", str(home)])
    return measured


def _submission(home: Path, launcher: list[str]) -> list[str]:
    program = [sys.executable, str(_ROOT / "train.py"), "-m", "hydra/launcher=submitit_slurm"]
    return [*program, f"hydra.sweep.dir={home}", "trainer.num_gpus=0", *launcher]


def _stand_in(folder: Path, tasks: int) -> Path:
    """Write the program of the tasks."""
    (folder / "progress.json").write_text(json.dumps(_FINISHED), encoding="utf-8")
    program = folder / "program"
    program.write_text(
        "#!/bin/bash\n"
        "run=${!#}\n"
        f'[ "$(basename "$run")" -lt {tasks - _RUNNING} ] || exec sleep 900\n'
        f'cp {folder}/progress.json "$run/.p" && mv "$run/.p" "$run/progress.json"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


def _time(command: list[str], rows: int = 0) -> float:
    """Return the seconds that a command took; it has to succeed, and to print a line for each of so many points."""
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stdout.count("trainer.seed=") < rows:
        raise RuntimeError(f"{' '.join(command)[:300]}\n{done.stderr}{done.stdout}")
    return time.perf_counter() - begin


def _wait_for_ends(home: Path, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while len(list(home.glob("*/progress.json"))) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{home}: fewer than {count} tasks ended within {_PATIENCE_S} s")
        time.sleep(1)


if __name__ == "__main__":
    main()

"""The first steps of a run again, in a directory of their own: `python -m pipeline.launch.replay DIR PARENT`."""

import json
import sys
from pathlib import Path

from pipeline.config.atomic import write_text
from pipeline.data.lifeline import end_with_parent
from pipeline.launch.preemption import stop_signals

if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    stop_signals.name_run(Path(sys.argv[1]))
    stop_signals.install()

_FILE = "replay.json"


def mark(run_dir: Path, steps: int) -> None:
    """Make a directory one whose training ends after some steps, as if they were the first of a longer run."""
    write_text(run_dir / _FILE, json.dumps({"steps": steps}) + "\n")


def steps_of(run_dir: Path) -> int | None:
    """Return after how many steps training ends in a directory; None for a run, whose horizon says it."""
    path = run_dir / _FILE
    return int(json.loads(path.read_bytes())["steps"]) if path.is_file() else None


def main(run_dir: Path) -> None:
    """Train in the directory with its config.yaml, on as many processes as that says.

    Raises:
        PipelineError: anything that the user can mend.
        SystemExit: with RESUME_EXIT_CODE at the end of the steps.
    """
    from pipeline.launch import preflight, resume
    from pipeline.launch.directory import RunDirectory
    from pipeline.launch.logs import configure_logging
    from pipeline.launch.processes import run_ranks
    from pipeline.launch.run import train

    configure_logging()
    stop_signals.begin_start_up()
    checked = preflight.check(resume.load(run_dir), frozenset())
    run = RunDirectory.of(checked.config)
    with run.locked() as lock:
        if checked.resources.world_size > 1:
            run_ranks(run.path, checked.resources, lock)
        else:
            train(checked)


if __name__ == "__main__":
    from pipeline.launch.report import plain_errors

    with plain_errors():
        main(Path(sys.argv[1]))

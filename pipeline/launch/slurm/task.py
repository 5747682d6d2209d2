"""One rank of a job, started by slurm/job.sh: `srun ... python -m pipeline.launch.slurm.task RUN_DIR`."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.launch.preemption import stop_signals

if __name__ == "__main__":
    stop_signals.name_run(Path(sys.argv[1]))
    stop_signals.install(quiet=os.environ["SLURM_PROCID"] != "0")  # the imports take seconds

from pipeline.config import compose  # noqa: E402
from pipeline.config.atomic import write_text  # noqa: E402
from pipeline.config.compose import Composition  # noqa: E402
from pipeline.launch import job, outer, resume  # noqa: E402
from pipeline.launch.directory import RunDirectory  # noqa: E402
from pipeline.launch.logs import configure_logging  # noqa: E402
from pipeline.launch.report import plain_errors  # noqa: E402
from pipeline.launch.slurm import failure, submission  # noqa: E402

_LOCK_PATIENCE_S = (
    300.0  # SLURM may start a job again while its lost node still ends, or a lock outlives its owner
)


def run(run_dir: Path) -> None:
    """Train one rank of a job in its run directory: begin the run, or go on with it.

    Args:
        run_dir: holds what the submission has stored.

    Raises:
        PipelineError: anything that the user can mend; it is recorded, and the job ends with it.
        SystemExit: with RESUME_EXIT_CODE where the job is to come back.
    """
    outer.take_place_of_task()
    configure_logging(int(os.environ["RANK"]))
    try:
        with failure.Judged(run_dir):
            composition = _in_place(submission.read(run_dir), run_dir)
            if os.environ["RANK"] == "0":
                _name_checkpoints(run_dir, composition)
            job.start(composition, _LOCK_PATIENCE_S)
    except SystemExit:
        # srun kills all tasks when one ends badly: those that have saved leave it to rank 0 to say so
        if stop_signals.has_saved and os.environ["RANK"] != "0":
            raise SystemExit(0) from None
        raise


def _in_place(composition: Composition, run_dir: Path) -> Composition:
    """Return what was submitted, as the command of the run in this directory, whether it has begun or not."""
    settings = composition.tree["run"]
    if settings["resume"] not in ("never", "auto"):  # submitted to go on with a run: with its own words
        settings = {**settings, "resume": str(run_dir)}
    else:
        settings = {**settings, "dir": str(run_dir), "resume": "auto"}
    return replace(composition, tree={**composition.tree, "run": settings}, sweep_dir=None)


def _name_checkpoints(run_dir: Path, composition: Composition) -> None:
    """Say where the checkpoints are: the job sees by them whether coming back helps."""
    begins = composition.tree["run"]["resume"] == "auto" and not (run_dir / "config.yaml").is_file()
    config = compose.parse(composition.tree) if begins else resume.load(run_dir)
    failure.job_folder(run_dir).mkdir(exist_ok=True)
    write_text(failure.job_folder(run_dir) / "checkpoints", f"{RunDirectory.of(config).checkpoints}\n")


if __name__ == "__main__":
    with plain_errors():
        run(Path(sys.argv[1]))

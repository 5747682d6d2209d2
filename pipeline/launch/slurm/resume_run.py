"""`make resume`: submit a run's job again, with the script, the code and the configuration that it has."""

import argparse
import re
import shlex
import subprocess
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.slurm import states
from pipeline.launch.slurm.cli import run_command, say
from pipeline.launch.slurm.point import Submitted
from pipeline.launch.slurm.states import State
from pipeline.launch.slurm.sweep import Sweep, home_of
from pipeline.launch.slurm.targets import one_run

_JOB = re.compile(r"(?P<number>\d+)(;\S*)?")  # sbatch names the cluster, too, where there are several
_PATIENCE_S = 60.0


def resume(run_dir: Path) -> Submitted:
    """Submit the job of a run again.

    Args:
        run_dir: the run, which was submitted before.

    Raises:
        LaunchError: the run is active, has finished or was never submitted, or SLURM does not take the job.
    """
    run_dir = one_run(run_dir).points[0].directory
    home = home_of(run_dir)
    if home is None:
        raise LaunchError(
            f"RUN={run_dir}: was not submitted; valid: python train.py run.resume={run_dir}, which trains it here"
        )
    with Sweep.held(home) as sweep:
        point = next(point for point in sweep.points if point.directory == run_dir)
        (state,), _ = states.survey([point])
        _refuse(state)
        former = point.submissions[-1]
        job = _submit(former, run_dir)
        name = Path(former.log).with_name(f"{job}.log")
        point.submissions.append(Submitted(job, former.script, str(name)))
        sweep.save()
    return point.submissions[-1]


def _refuse(state: State) -> None:
    run_dir = state.point.directory
    if state.is_active:
        reason = f" ({state.reason})" if state.reason else ""
        raise LaunchError(
            f"RUN={run_dir}: job {state.job} is {state.word}{reason}; make cancel RUN={run_dir} ends it"
        )
    if state.word == states.FINISHED:
        raise LaunchError(
            f"RUN={run_dir}: has finished its horizon; launch it again with a larger trainer.trainer.max_epochs or "
            "max_steps to extend it"
        )
    if not state.point.submissions:
        raise LaunchError(f"RUN={run_dir}: has no job to submit again; launch it")


def _submit(former: Submitted, run_dir: Path) -> str:
    """Submit a script again and return the job's name."""
    try:
        text = former.script.read_text(encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"{former.script}: {error.strerror}; launch the run again instead") from None
    if shlex.quote(str(run_dir)) not in text:
        raise LaunchError(
            f"{former.script}: was written for another place than {run_dir}; launch the run again instead"
        )
    task = former.job.partition("_")[2]
    command = ["sbatch", "--parsable", *([f"--array={task}"] if task else []), str(former.script)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"sbatch: {error}; SLURM takes jobs on a login node") from None
    found = _JOB.fullmatch(ended.stdout.strip())
    if ended.returncode != 0 or found is None:
        raise LaunchError(f"{shlex.join(command)}: {(ended.stderr or ended.stdout).strip()}")
    return f"{found['number']}_{task}" if task else found["number"]


def _resume(arguments: argparse.Namespace) -> int:
    submitted = resume(arguments.run)
    say(f"submitted as job {submitted.job}; it writes to {submitted.log}")
    return 0


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="make resume", description=__doc__)
    command.add_argument("--run", type=Path, metavar="DIR", required=True, help="a run directory")
    run_command(command, _resume)

"""One job: from what Hydra composed to a finished run."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import compose
from pipeline.config.compose import Composition
from pipeline.config.launcher_schema import SLURM_LAUNCHER
from pipeline.errors import LaunchError
from pipeline.launch import opening
from pipeline.launch.command import train_command
from pipeline.launch.directory import RunDirectory
from pipeline.launch.join import train_as_rank
from pipeline.launch.logs import configure_logging
from pipeline.launch.outer import find_place
from pipeline.launch.preemption import stop_signals
from pipeline.launch.processes import run_ranks
from pipeline.launch.run import train

_ROOT = Path(__file__).resolve().parents[2]
_SHOWN = ("--cfg", "-c", "--info", "-i")
_SHOWN_SO = ("--cfg=", "--info=")


def prepare_jobs() -> None:
    """Make this project importable in jobs that are launched from another working directory, and EULER_RUNS plain.

    The folder of a sweep is composed by Hydra, which would take an empty EULER_RUNS for `/` and `~` for a name.
    """
    paths = [str(_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    root = os.environ.pop("EULER_RUNS", "")
    if root:
        os.environ["EULER_RUNS"] = os.path.expanduser(root)


def refuse_misleading_arguments(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would accept and not do: a launcher without `-m`, a sweep in one rank, `hydra.run.dir`.

    Raises:
        LaunchError: with the corrected command.
    """
    launcher = [argument for argument in arguments if argument.lstrip("+").startswith("hydra/launcher=")]
    multirun = any(argument in ("-m", "--multirun") for argument in arguments)
    shown = next((word for word in arguments if word in _SHOWN or word.startswith(_SHOWN_SO)), None)
    if multirun and shown is not None:
        raise LaunchError(
            f"{shown} shows one job; leave out -m (hydra.launcher.dry_run=true shows the scripts of a sweep on SLURM)"
        )
    if launcher and not multirun and not launcher[-1].endswith("=basic"):
        corrected = train_command("-m", *arguments)
        raise LaunchError(f"{launcher[-1]} submits jobs only with -m; did you mean: {corrected}")
    place = find_place() if multirun else None
    if place is not None and place.world_size > 1:
        raise LaunchError(
            "-m starts several jobs, and this process is one rank of one job (RANK, WORLD_SIZE are set); valid: one "
            "job per start of the launcher, or -m without it"
        )
    is_submitted = bool(launcher) and launcher[-1].endswith(f"={SLURM_LAUNCHER}")
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if key == "container.image" and value != "null" and not is_submitted and shown is None:
            raise LaunchError(
                f"{argument}: only jobs of SLURM (-m hydra/launcher={SLURM_LAUNCHER}) enter an image by themselves; "
                f"here: apptainer exec {value} python train.py ..."
            )
        if key == "hydra.run.dir":
            raise LaunchError(
                f"{argument} has no effect here; valid: run.dir=DIR, or EULER_RUNS for the root of all runs"
            )


def start(composition: Composition, lock_patience_s: float = 0.0) -> None:
    """Check the configuration, make or find the run directory, and train.

    Args:
        composition: what Hydra composed.
        lock_patience_s: how long to wait for a living process that trains in the run's directory.

    Raises:
        PipelineError: anything that the user can mend.
        SystemExit: the run was asked to stop; its code says that it is to be started again.
    """
    stop_signals.begin_start_up()
    place = find_place()
    if place is not None and place.world_size > 1:
        train_as_rank(place, composition, lock_patience_s)
        return
    configure_logging()
    decided = opening.decide(compose.settle(composition), composition)
    with opening.opened(decided, composition, lock_patience_s) as (checked, lock):
        if checked.resources.world_size > 1:
            run_ranks(RunDirectory.of(checked.config).path, checked.resources, lock)
        else:
            train(checked)

"""One job: from what Hydra composed to a finished run."""

import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config import compose
from pipeline.config.compose import Composition
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch import directory, preflight
from pipeline.launch.directory import RunDirectory
from pipeline.launch.logs import configure_logging
from pipeline.launch.processes import run_ranks
from pipeline.launch.provenance import write_provenance
from pipeline.launch.run import train

_log = logging.getLogger(__name__)

# What a resumed run may change: its horizon, its hardware and what it logs. The rest is the run's identity.
_CHANGEABLE = re.compile(
    r"^(run\.resume|trainer\.(num_gpus|num_processes|num_nodes|strategy|logger|wandb\..*)|data\.\w+_dataloader\."
    r"(num_workers|prefetch_factor|persistent_workers|pin_memory)|trainer\.trainer\.(max_\w+|min_\w+|log_\w+|num_demos|demo_\w+|"
    r"save_\w+|profile|profiler_dir|enable_\w+))$"
)


def refuse_silent_local_run(arguments: Sequence[str]) -> None:
    """Refuse a cluster launcher without `-m`: Hydra would train on this machine and say nothing.

    Raises:
        LaunchError: with the corrected command.
    """
    launcher = [argument for argument in arguments if argument.lstrip("+").startswith("hydra/launcher=")]
    multirun = any(argument in ("-m", "--multirun") for argument in arguments)
    if launcher and not multirun and not launcher[-1].endswith("=basic"):
        corrected = shlex.join(["python", "train.py", "-m", *arguments])
        raise LaunchError(f"{launcher[-1]} submits jobs only with -m; did you mean: {corrected}")


def start(composition: Composition) -> None:
    """Check the configuration, make or find the run directory, and train.

    Raises:
        PipelineError: anything that the user can mend.
    """
    configure_logging()
    config = compose.settle(composition)
    if config.run.resume is not None:
        config = _resumed(config, composition)
    checked = preflight.check(config, composition.given)
    if config.run.resume is None:
        checked = replace(checked, config=directory.create(checked.config, composition))
        write_provenance(checked.config, composition.overrides)
    run = RunDirectory.of(checked.config)
    with run.locked():
        if checked.resources.world_size > 1:
            run_ranks(run.path, checked.resources)
        else:
            train(checked)


def _resumed(config: Config, composition: Composition) -> Config:
    """Return the configuration of the run to continue, with the allowed changes of the command line."""
    assert config.run.resume is not None
    path = Path(config.run.resume)
    stored = compose.read(path / "config.yaml")
    tree = stored.model_dump()
    for key in sorted(composition.given):
        if not _CHANGEABLE.match(key):
            raise ConfigError(
                f"{key}: cannot change in run.resume={path}; a resumed run keeps its model, data, losses and seed. "
                "Valid: horizon (max_epochs, max_steps), hardware, logging; run.init_from starts a new run"
            )
        *parents, leaf = key.split(".")
        section, source = tree, config.model_dump()
        for parent in parents:
            section, source = section[parent], source[parent]
        if section[leaf] != source[leaf] and key != "run.resume":
            _log.info("resume: %s was %r, now %r", key, section[leaf], source[leaf])
        section[leaf] = source[leaf]
    return compose.parse(tree)

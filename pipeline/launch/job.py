"""One job: from what Hydra composed to a finished run."""

import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import compose
from pipeline.config.compose import Composition
from pipeline.config.schema import Config
from pipeline.data.bad_files import BadFileLedger
from pipeline.data.corpus import prepare_corpus
from pipeline.errors import LaunchError
from pipeline.launch import directory, preflight, resume
from pipeline.launch.directory import RunDirectory
from pipeline.launch.logs import configure_logging
from pipeline.launch.preemption import stop_signals
from pipeline.launch.preflight import Preflight
from pipeline.launch.processes import run_ranks
from pipeline.launch.provenance import write_provenance
from pipeline.launch.run import train
from pipeline.launch.same_command import find_run

_log = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]


def prepare_jobs() -> None:
    """Make this project importable in jobs that are launched from another working directory."""
    paths = [str(_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def refuse_misleading_arguments(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would accept without effect: a launcher without `-m` (it would train here), `hydra.run.dir`.

    Raises:
        LaunchError: with the corrected command.
    """
    launcher = [argument for argument in arguments if argument.lstrip("+").startswith("hydra/launcher=")]
    multirun = any(argument in ("-m", "--multirun") for argument in arguments)
    if launcher and not multirun and not launcher[-1].endswith("=basic"):
        corrected = shlex.join(["python", "train.py", "-m", *arguments])
        raise LaunchError(f"{launcher[-1]} submits jobs only with -m; did you mean: {corrected}")
    for argument in arguments:
        if argument.lstrip("+").startswith("hydra.run.dir="):
            raise LaunchError(
                f"{argument} has no effect here; valid: run.dir=DIR, or EULER_RUNS for the root of all runs"
            )


def start(composition: Composition) -> None:
    """Check the configuration, make or find the run directory, and train.

    Raises:
        PipelineError: anything that the user can mend.
        SystemExit: the run was asked to stop; its code says that it is to be started again.
    """
    stop_signals.begin_start_up()
    configure_logging()
    checked, changes = _decide(compose.settle(composition), composition)
    if changes is None:
        _check_audio(checked.config)
        checked = replace(checked, config=directory.claim(checked.config, composition.sweep_dir))
    run = RunDirectory.of(checked.config)
    with run.locked() as lock:
        if changes is None:
            directory.write_records(checked.config, composition)
        stop_signals.name_run(run.path)
        write_provenance(checked.config, composition.overrides)
        with resume.remembering(run.path, run.checkpoints, changes or {}):
            if checked.resources.world_size > 1:
                run_ranks(run.path, checked.resources, lock)
            else:
                train(checked)


def _decide(wanted: Config, composition: Composition) -> tuple[Preflight, dict[str, Any] | None]:
    """Return what to run, and the changes to the run that is continued; None for a new run."""
    given = composition.given
    if wanted.run.resume == "never":
        return preflight.check(wanted, given), None
    if wanted.run.resume == "auto":
        # the checkpoint that the run once began with may be gone
        described = preflight.check(wanted, given - {"run.init_from"}).config
        run_dir = find_run(described, composition.sweep_dir)
        if run_dir is None:
            return preflight.check(wanted, given), None
        config, changes = resume.change(run_dir, described, None)
    else:
        run_dir = resume.locate(Path(wanted.run.resume))
        config, changes = resume.change(run_dir, wanted, given - {"run.resume"})
    return preflight.check(config, frozenset()), changes


def _check_audio(config: Config) -> None:
    """Prepare the audio before a run directory exists: one that cannot train leaves nothing behind.

    Raises:
        DataError: nothing usable, or too many bad files.
    """
    cache_dir = Path(config.data.cache_dir)
    corpus = prepare_corpus(config.data, cache_dir=cache_dir, report=_log.info)
    silent = BadFileLedger(corpus.num_files, config.data.max_bad_fraction, report=lambda line: None)
    silent.record(corpus.bad_files)

"""The way to an open run: which run it is, its audio, its directory and lock, its records."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config.compose import Composition
from pipeline.config.schema import Config
from pipeline.data.bad_files import BadFileLedger
from pipeline.data.corpus import prepare_corpus
from pipeline.launch import directory, preflight, resume
from pipeline.launch.directory import RunDirectory
from pipeline.launch.preemption import stop_signals
from pipeline.launch.preflight import Preflight
from pipeline.launch.same_command import find_run

_log = logging.getLogger(__name__)
Decided = tuple[Preflight, dict[str, Any] | None]
"""What to run, and the changes to the run that is continued; None for a new run."""


def decide(wanted: Config, composition: Composition) -> Decided:
    """Decide what to run, from the settled configuration and how it came about.

    Raises:
        PipelineError: anything that the user can mend.
    """
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


@contextmanager
def opened(
    decided: Decided, composition: Composition, lock_patience_s: float = 0.0
) -> Iterator[tuple[Preflight, int]]:
    """Hold a run open: its directory made or found, locked, and its records written.

    Args:
        decided: from `decide`.
        composition: what Hydra composed.
        lock_patience_s: how long to wait for a living process that trains in the directory.

    Yields:
        The configuration with the run's directory in it, and the descriptor of the lock.

    Raises:
        PipelineError: anything that the user can mend.
    """
    checked, changes = decided
    if changes is None:
        _check_audio(checked.config)
        _check_weights(checked.config)
        checked = replace(checked, config=directory.claim(checked.config, composition.sweep_dir))
    run = RunDirectory.of(checked.config)
    with run.locked(lock_patience_s) as lock:
        if changes is None:
            directory.write_records(checked.config, composition)
        stop_signals.name_run(run.path)
        with resume.remembering(run.path, run.checkpoints, changes or {}):
            yield checked, lock


def _check_audio(config: Config) -> None:
    """Prepare the audio before a run directory exists: one that cannot train leaves nothing behind.

    Raises:
        DataError: nothing usable, or too many bad files.
    """
    cache_dir = Path(config.data.cache_dir)
    corpus = prepare_corpus(config.data, cache_dir=cache_dir, report=_log.info)
    silent = BadFileLedger(corpus.num_files, config.data.max_bad_fraction, report=lambda line: None)
    silent.record(corpus.bad_files)


def _check_weights(config: Config) -> None:
    """Check the weights to begin with before a run directory exists.

    Raises:
        CheckpointError: they are damaged or belong to another model.
    """
    if config.run.init_from is None:
        return
    from pipeline.training.module_build import model_description  # torch, and slow
    from pipeline.training.start import check_weights

    check_weights(config.run.init_from, model_description(config))

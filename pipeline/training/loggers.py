"""Where measurements go: metrics.csv, TensorBoard, Weights & Biases, or nowhere."""

import logging
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger

from pipeline.errors import ConfigError, PipelineError
from pipeline.training.logs.base import Mark, RunLog
from pipeline.training.logs.metrics_csv import MetricsCsv
from pipeline.training.ranks.agreement import StopRequested

_log = logging.getLogger(__name__)


def build_loggers(
    names: Iterable[str],
    run_dir: Path,
    columns: Sequence[str],
    wandb_project: str,
    wandb_name: str,
    hyperparameters: dict[str, Any],
    mark: dict[str, Mark] | None,
    resumed_step: int | None,
) -> list[Logger]:
    """Build the loggers asked for, each continued exactly from where it was at a checkpoint.

    Args:
        names: csv, tensorboard, wandb.
        run_dir: the run directory.
        columns: metric names of metrics.csv.
        wandb_project: project at Weights & Biases.
        wandb_name: name of the run there.
        hyperparameters: the run's configuration.
        mark: what `mark_logs` returned when the checkpoint that the run continues from was written.
        resumed_step: optimiser steps of that checkpoint; None starts every log anew.

    Raises:
        ConfigError: the package of a logger is not installed, or Weights & Biases does not take the run.
        TrainingError: a log cannot be written.
    """
    loggers: list[Logger] = []
    for name in names:
        if name != "csv" and find_spec(name) is None:
            raise ConfigError(
                f"trainer.logger={name}: the package {name} is not installed; run `make env`, or use csv"
            )
        # A logger that joins a run later finds no mark of its own in the checkpoint.
        own = mark[name] if mark is not None and name in mark else None
        log: RunLog
        if name == "csv":
            log = MetricsCsv(run_dir / "metrics.csv", columns, own, resumed_step)
        elif name == "tensorboard":
            from pipeline.training.logs.tensorboard_log import TensorBoardLog

            log = TensorBoardLog(run_dir / "tensorboard", own, resumed_step)
        else:
            from pipeline.training.logs.wandb_log import WandbLog

            log = WandbLog(run_dir, wandb_project, wandb_name, own, resumed_step)
        log.log_hyperparams(hyperparameters)
        loggers.append(log)
    return loggers


def mark_logs(loggers: Iterable[Logger]) -> dict[str, Mark]:
    """Put all logs on disk and return how far each is, as plain data for a checkpoint; call it on rank 0.

    Raises:
        TrainingError: a log cannot be written.
    """
    return {log.name: log.mark() for log in _own(loggers)}


def close_loggers(loggers: Iterable[Logger]) -> None:
    """End all logs, so that no process of theirs outlives the run; an error of one is a warning.

    Called while an error leaves the run, it marks the run as failed where a log can, unless the run is to be resumed.
    """
    failed = _is_failure(sys.exc_info()[1])
    with ExitStack() as stack:  # which closes the others even after a defect of one
        for log in _own(loggers):
            stack.callback(_close, log, failed)


def _close(log: RunLog, failed: bool) -> None:
    try:
        log.close(failed)
    except (OSError, PipelineError) as error:  # what comes after it, such as the exit code, matters more
        _log.warning("note: the log %s was not closed (%s)", log.name, error)


def _is_failure(error: BaseException | None) -> bool:
    """Tell whether an error ends the run for good; Lightning takes a request to stop for a failure as well."""
    if isinstance(error, SystemExit):
        error = error.__context__ or error  # the request that the exit answers
    return error is not None and not isinstance(error, StopRequested)


def log_audio(
    loggers: Iterable[Logger], name: str, path: Path, samples: np.ndarray, sample_rate_hz: int, step: int
) -> None:
    """Send audio (S, C), which also lies in a file of the run directory, to the loggers that take it."""
    for log in _own(loggers):
        log.log_audio(name, path, samples, sample_rate_hz, step)


def log_picture(loggers: Iterable[Logger], name: str, path: Path, step: int) -> None:
    """Send a PNG file to the loggers that take it."""
    for log in _own(loggers):
        log.log_picture(name, path, step)


def wandb_sync_command(run_dir: Path) -> str | None:
    """Return the command that uploads what was logged offline as one run, or None."""
    segments = sorted((run_dir / "wandb").glob("offline-run-*"))
    return shlex.join(["wandb", "sync", *map(str, segments)]) if segments else None


def _own(loggers: Iterable[Logger]) -> list[RunLog]:
    return [logger for logger in loggers if isinstance(logger, RunLog)]

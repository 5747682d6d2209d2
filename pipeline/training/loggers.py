"""Where measurements go: metrics.csv, TensorBoard, Weights & Biases, or nowhere."""

import csv
import os
from argparse import Namespace
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_only
from matplotlib.image import imread
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from pipeline.errors import ConfigError


class MetricsCsv(Logger):
    """One `metrics.csv` a run: one row per logged step, fixed columns, no wall-clock figures.

    A run that continues keeps the rows up to its checkpoint's step and drops the later ones, which it will repeat.

    Args:
        path: the file.
        columns: metric names, in order; `step` and `epoch` lead.
        resumed_step: optimiser steps of the checkpoint that the run continues from; None starts the file anew.
    """

    def __init__(self, path: Path, columns: Sequence[str], resumed_step: int | None) -> None:
        super().__init__()
        self._path = path
        self._columns = ["step", "epoch", *columns]
        self._start(resumed_step)

    @rank_zero_only
    def _start(self, resumed_step: int | None) -> None:
        rows = []
        if resumed_step is not None and self._path.exists():
            rows = [row for row in read_rows(self._path) if int(row["step"]) <= resumed_step]
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> int:
        """There is one file a run."""
        return 0

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row."""
        row = {name: value for name, value in metrics.items() if name in self._columns}
        row |= {"step": step or 0, "epoch": int(metrics.get("epoch", 0))}
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the whole rows of a metrics.csv; a last line cut short by a kill is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(whole.splitlines()))


def wandb_is_online() -> bool:
    """Tell whether an API key is there; without one runs are logged offline instead of asking for it."""
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"] == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        machines = netrc().hosts
    except (OSError, NetrcParseError):
        return False
    return any("wandb" in host for host in machines)


def build_loggers(
    names: Iterable[str],
    run_dir: Path,
    columns: Sequence[str],
    wandb_project: str,
    wandb_name: str,
    hyperparameters: dict[str, Any],
    resumed_step: int | None,
) -> list[Logger]:
    """Build the loggers asked for.

    Raises:
        ConfigError: the package of a logger is not installed.
    """
    loggers: list[Logger] = []
    for name in names:
        if name != "csv" and find_spec(name) is None:
            raise ConfigError(
                f"trainer.logger={name}: the package {name} is not installed; run `make env`, or use csv"
            )
        if name == "csv":
            loggers.append(MetricsCsv(run_dir / "metrics.csv", columns, resumed_step))
        elif name == "tensorboard":
            loggers.append(
                TensorBoardLogger(run_dir, name="tensorboard", version="", default_hp_metric=False)
            )
        else:
            os.environ.setdefault("WANDB_SILENT", "true")
            wandb = WandbLogger(
                project=wandb_project,
                name=wandb_name,
                save_dir=run_dir,
                offline=not wandb_is_online(),
                log_model=False,
            )
            loggers.append(wandb)
    for logger in loggers:
        logger.log_hyperparams(hyperparameters)
    return loggers


def wandb_sync_command(run_dir: Path) -> str | None:
    """Return the command that uploads what was logged offline, or None."""
    segments = sorted((run_dir / "wandb").glob("offline-run-*"))
    return f"wandb sync {' '.join(str(segment) for segment in segments)}" if segments else None


def log_audio(
    loggers: Iterable[Logger], name: str, samples: np.ndarray, sample_rate_hz: int, step: int
) -> None:
    """Send audio (S, C) to the loggers that take it."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            mono = samples.mean(axis=1)  # TensorBoard plays one channel
            logger.experiment.add_audio(name, mono, step, sample_rate=sample_rate_hz)
        elif isinstance(logger, WandbLogger):
            logger.log_audio(name, [samples], step=step, sample_rate=[sample_rate_hz])


def log_picture(loggers: Iterable[Logger], name: str, path: Path, step: int) -> None:
    """Send a PNG file to the loggers that take it."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, imread(path)[..., :3], step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], step=step)

"""Writes `progress.json` in the run directory: how far training is, for those who look at it from outside."""

import json
import logging
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipeline.config.atomic import write_text
from pipeline.data.dataset import Batch
from pipeline.training.loop import ExactFitLoop
from pipeline.training.module import AutoencoderModule
from pipeline.training.ranks.agreement import StopRequested

_log = logging.getLogger(__name__)
_FILE = "progress.json"
_SECONDS_BETWEEN = 5.0


class ProgressRecord(pl.Callback):
    """Keep `progress.json`; the first rank writes it, whole or not at all, every few seconds.

    Keys: `state` (running, stopped: saved and to be resumed, failed, finished: the horizon is reached and everything
    is on disk), `step`, `epoch` (whole ones behind), `horizon` (max_epochs, max_steps), `steps` (in all, null where
    no horizon is set), `steps_per_s` (validations not counted), `monitor`, `best` (its best value), `metrics` (the
    newest validation), `updated`.

    Nothing of the run reads it, so it changes no result; a disk that takes it not changes nothing either.

    Args:
        run_dir: the run directory.
        horizon: `max_epochs` and `max_steps`, as configured.
        monitor: validation metric that ranks checkpoints.
        higher_is_better: its direction.
    """

    def __init__(
        self, run_dir: Path, horizon: dict[str, int | None], monitor: str, higher_is_better: bool
    ) -> None:
        self._path = run_dir / _FILE
        self._horizon = horizon
        self._monitor = monitor
        self._better = max if higher_is_better else min
        self._best = _former_best(self._path, monitor)
        self._speed = Speed()
        self._written_s = 0.0
        self._steps_in_all: int | None = None
        self._has_begun = self._is_refused = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training begins, or goes on."""
        self._has_begun = True
        total = trainer.estimated_stepping_batches
        self._steps_in_all = None if math.isinf(total) else int(total)
        self._write(trainer, "running")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write the record if the last one is old."""
        if time.monotonic() - self._written_s >= _SECONDS_BETWEEN:
            self._write(trainer, "running")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of the speed."""
        self._speed.pause(time.monotonic())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the monitored metric; that of the untrained model counts for nothing."""
        self._speed.go_on(time.monotonic())
        assert isinstance(pl_module, AutoencoderModule)
        value = pl_module.validation_metrics.get(self._monitor)
        if not trainer.sanity_checking and value is not None and math.isfinite(value):
            self._best = value if self._best is None else self._better(self._best, value)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """The run leaves training: saved after a signal, or by an error."""
        if self._has_begun:
            self._write(trainer, "stopped" if isinstance(exception, StopRequested) else "failed")

    def finish(self, trainer: pl.Trainer) -> None:
        """The horizon is reached and everything is on disk; every rank may call it."""
        self._steps_in_all = trainer.global_step
        self._write(trainer, "finished")

    def _write(self, trainer: pl.Trainer, state: str) -> None:
        if not trainer.is_global_zero:
            return
        self._written_s = time.monotonic()
        record = json.dumps(self._describe(trainer, state), indent=1) + "\n"
        try:
            if state == "running":  # often, and worth no waiting for the disk
                unfinished = self._path.with_name(f".{_FILE}.tmp")
                unfinished.write_text(record, encoding="utf-8")
                unfinished.replace(self._path)
            else:
                write_text(self._path, record)
        except OSError as error:
            if not self._is_refused:
                _log.warning("note: %s cannot be written (%s); training goes on", self._path, error.strerror)
            self._is_refused = True

    def _describe(self, trainer: pl.Trainer, state: str) -> dict[str, Any]:
        loop, module = trainer.fit_loop, trainer.lightning_module
        assert isinstance(loop, ExactFitLoop) and isinstance(module, AutoencoderModule)
        return {
            "state": state,
            "step": loop.position.steps,
            "epoch": loop.position.epoch,
            "horizon": self._horizon,
            "steps": self._steps_in_all,
            "steps_per_s": self._speed.at(loop.position.steps, self._written_s),
            "monitor": self._monitor,
            "best": self._best,
            "metrics": module.validation_metrics,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }


class Speed:
    """Steps per second between two looks, pauses not counted; `now_s` is any clock in seconds."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._step = 0
        self._paused_s = self._pause_began_s = 0.0
        self._rate: float | None = None

    def pause(self, now_s: float) -> None:
        """Time that passes from now on does not count."""
        self._pause_began_s = now_s

    def go_on(self, now_s: float) -> None:
        """Time counts again."""
        self._paused_s += now_s - self._pause_began_s

    def at(self, step: int, now_s: float) -> float | None:
        """Return the speed since the last look at which there was another step; None before there were two."""
        if self._since_s is not None and step == self._step:
            return self._rate
        if self._since_s is not None:
            seconds = now_s - self._since_s - self._paused_s
            self._rate = round((step - self._step) / seconds, 3) if seconds > 0 else self._rate
        self._since_s, self._step, self._paused_s = now_s, step, 0.0
        return self._rate


def _former_best(path: Path, monitor: str) -> float | None:
    """Return the best value that an earlier start of the run has seen."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("monitor") != monitor:
        return None
    best = record.get("best")
    return best if isinstance(best, float) else None

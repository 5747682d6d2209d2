"""Tells how far training is: a bar on a terminal, plain lines elsewhere, and the time left."""

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl

from pipeline.data.dataset import Batch
from pipeline.training.module import AutoencoderModule

_log = logging.getLogger(__name__)
_FIRST_ESTIMATE_STEPS = 20
_SECONDS_BETWEEN_LINES = 10.0


class Progress(pl.Callback):
    """Say the time left after 20 steps and, where no bar is drawn, a line now and then.

    Args:
        plain_lines: print lines; False where a progress bar does it.
    """

    def __init__(self, plain_lines: bool) -> None:
        self._plain_lines = plain_lines
        self._start_s = self._last_line_s = 0.0
        self._start_step = 0
        self._estimated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start_s = self._last_line_s = time.monotonic()
        self._start_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Print what is due."""
        done = trainer.global_step - self._start_step
        if done == _FIRST_ESTIMATE_STEPS and not self._estimated:
            self._estimated = True
            _log.info("After %d steps: %s", done, self._time_left(trainer, done))
        elif self._plain_lines and done > 0 and time.monotonic() - self._last_line_s > _SECONDS_BETWEEN_LINES:
            self._last_line_s = time.monotonic()
            loss = trainer.callback_metrics.get("train/loss")
            shown = f", train/loss {float(loss):.4g}" if loss is not None else ""
            _log.info(
                "epoch %d, step %d%s, %s",
                trainer.current_epoch,
                trainer.global_step,
                shown,
                self._time_left(trainer, done),
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print every validation."""
        assert isinstance(pl_module, AutoencoderModule)
        figures = "  ".join(f"{name} {value:.3f}" for name, value in pl_module.validation_metrics.items())
        state = "before training" if trainer.sanity_checking else f"step {trainer.global_step}"
        _log.info("validation (%s): %s", state, figures)

    def _time_left(self, trainer: pl.Trainer, done: int) -> str:
        seconds_per_step = (time.monotonic() - self._start_s) / max(done, 1)
        total = trainer.estimated_stepping_batches
        rate = f"{1 / seconds_per_step:.2f} steps/s"
        if math.isinf(total):
            return f"{rate}, no horizon set"
        left = spoken_time((total - trainer.global_step) * seconds_per_step)
        return f"{rate}, about {left} left of {int(total)} steps"


def spoken_time(seconds: float) -> str:
    """Return a duration as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

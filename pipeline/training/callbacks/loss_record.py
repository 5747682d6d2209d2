"""The losses of a run's first steps, to the bit: what a later repetition is compared with."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.config.atomic import write_text
from pipeline.data.dataset import Batch
from pipeline.training.callbacks import LOSSES, LOSSES_WRITTEN_EVERY, RECORDED_STEPS
from pipeline.training.loop import ExactFitLoop

_log = logging.getLogger(__name__)


class LossRecord(pl.Callback):
    """Keep `losses.jsonl`: a line for each of the first steps, with the loss of each of its batches on the first rank.

    Losses are hexadecimal floats, which hold every bit. Checkpoints hold them, too, so that a run that goes on has each
    step once, with the losses that its weights stem from. A disk that takes the file not changes nothing in a run.

    Args:
        run_dir: the run directory.
        stop_after: steps after which a repetition ends; None for a run.
    """

    def __init__(self, run_dir: Path, stop_after: int | None = None) -> None:
        self._path = run_dir / LOSSES
        self._stop_after = stop_after
        self._steps: list[list[str]] = []
        self._unread: list[list[Tensor]] = []
        self._batches: list[Tensor] = []  # of the step that is under way
        self._is_on = self._is_refused = False

    def is_over(self, step: int) -> bool:
        """Whether a repetition has done all its steps."""
        return self._stop_after is not None and step >= self._stop_after

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the file in the state of the checkpoint; of steps that are not in it, none are recorded."""
        if not trainer.is_global_zero:
            self._steps = []  # the checkpoint's are those of the first rank
            return
        self._is_on = len(self._steps) == min(trainer.global_step, RECORDED_STEPS)
        if self._is_on and (self._steps or self._path.exists()):
            self._write()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss of a batch; nothing waits for it."""
        loop = trainer.fit_loop
        assert isinstance(loop, ExactFitLoop)
        count = len(self._steps) + len(self._unread)
        if not self._is_on or count >= RECORDED_STEPS:
            return
        self._batches.append(outputs["loss"].detach().clone())
        if not loop.epoch_loop.is_between_steps:
            return
        self._unread.append(self._batches)
        self._batches = []
        if (count + 1) % LOSSES_WRITTEN_EVERY == 0 or self.is_over(count + 1):
            self._write()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left."""
        if self._unread:
            self._write()

    def state_dict(self) -> dict[str, Any]:
        """Return the losses so far."""
        if self._unread:
            self._write()
        return {"losses": [list(step) for step in self._steps]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._steps = [list(step) for step in state_dict["losses"]]

    def _write(self) -> None:
        if self._unread:
            values = iter(torch.stack([loss for step in self._unread for loss in step]).double().tolist())
            self._steps += [[next(values).hex() for _ in step] for step in self._unread]
            self._unread = []
        lines = (json.dumps({"step": number, "loss": step}) for number, step in enumerate(self._steps, 1))
        try:
            write_text(self._path, "".join(f"{line}\n" for line in lines))
        except OSError as error:
            if not self._is_refused:
                _log.warning("note: %s cannot be written (%s); training goes on", self._path, error.strerror)
            self._is_refused = True

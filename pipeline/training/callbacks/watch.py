"""Tells the watchdog where training is, and measures this rank's own part of a step."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from pipeline.data.dataset import Batch
from pipeline.training.loop import ExactFitLoop
from pipeline.training.watch.pulse import Place, Stage
from pipeline.training.watch.stragglers import OwnShare
from pipeline.training.watch.watchdog import Watchdog


class Watch(pl.Callback):
    """Acts first, so that what other callbacks do counts to the part that it belongs to.

    Args:
        watchdog: is told.
        use_gpu: measure on the GPU.
    """

    def __init__(self, watchdog: Watchdog, use_gpu: bool) -> None:
        self.watchdog = watchdog
        self._share = OwnShare(use_gpu)
        self._lap = 0

    def settling(self, settle: Callable[[], None], trainer: pl.Trainer) -> Callable[[], None]:
        """Return what is done between two optimiser steps, with the watchdog told before and after.

        Args:
            settle: saves and stops where it is due.
            trainer: whose steps they are.
        """

        def told() -> None:
            self._at(trainer, Stage.SETTLING, "between two steps, saving if it is due")
            settle()
            self._await_batch(trainer)

        return told

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin the watch: the ranks are connected."""
        self._at(trainer, Stage.SET_UP, "set-up", is_bounded=False)
        self.watchdog.start()

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From the first validation on the time counts."""
        self._at(trainer, Stage.VALIDATION, "first validation")

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set-up goes on."""
        self._at(trainer, Stage.DEMOS, "set-up after the first validation", is_bounded=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training begins."""
        self._at(trainer, Stage.DATA, "start of training, first batch")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """The batch is there."""
        self._share.note_data()
        self._at(trainer, Stage.FORWARD, f"forward pass of batch {batch_idx}")

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """The part that waits for no other rank is over."""
        self._share.end()
        self._at(trainer, Stage.BACKWARD, "backward pass, adding up gradients")

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """All gradients are there."""
        self._at(trainer, Stage.STEP, "optimiser step")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """One more lap; the next batch comes, or what follows an optimiser step."""
        self._lap += 1
        loop = trainer.fit_loop
        assert isinstance(loop, ExactFitLoop)
        if loop.epoch_loop.is_between_steps:
            self._share.close_step()
            self.watchdog.note_share(self._share.medians_ms)
            self._at(trainer, Stage.AFTER_BATCH, "logging and what follows a step")
        else:
            self._await_batch(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A validation begins."""
        self._at(trainer, Stage.VALIDATION, "start of a validation")

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """One more batch is there."""
        self._at(trainer, Stage.VALIDATION, f"validation batch {batch_idx}", 2 * batch_idx + 1)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """The next one is waited for."""
        self._at(trainer, Stage.VALIDATION, f"after validation batch {batch_idx}", 2 * batch_idx + 2)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The ranks add up their metrics."""
        self._at(trainer, Stage.METRICS, "adding up validation metrics")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs and demonstrations follow."""
        self._at(trainer, Stage.DEMOS, "end of a validation: logs and demonstrations")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The newest checkpoint is waited for."""
        self._at(trainer, Stage.FINISHING, "end of training", is_bounded=False)
        self._lap += 1

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """What comes now has no bound."""
        self._at(trainer, Stage.FINISHING, "end of the run", is_bounded=False)

    def _await_batch(self, trainer: pl.Trainer) -> None:
        self._share.begin()
        self._at(trainer, Stage.DATA, "waiting for data")

    def _at(
        self, trainer: pl.Trainer, stage: Stage, words: str, item: int = 0, *, is_bounded: bool = True
    ) -> None:
        self.watchdog.at(Place(trainer.global_step, self._lap, stage, item, words, is_bounded))

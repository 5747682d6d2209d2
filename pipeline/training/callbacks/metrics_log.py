"""Writes what was measured to the loggers, on one step axis: the number of optimiser steps done."""

import math
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.data.dataset import Batch
from pipeline.errors import TrainingError
from pipeline.training.module import AutoencoderModule
from pipeline.training.ranks.agreement import StopRequested
from pipeline.training.ranks.reduction import reduce_over_ranks
from pipeline.training.readback import Readback
from pipeline.training.zero import ZeroStrategy


class _Row(NamedTuple):
    """A logged step whose figures may still be on their way from the GPU."""

    names: list[str]
    values: Readback  # float64, one for each name
    known: dict[str, float]
    step: int


class MetricsLog(pl.Callback):
    """Log losses, gradient norm and learning rate every `log_every_n_steps`, and every validation.

    Losses are averaged over all ranks in one collective per logged step; other steps cost nothing. On a GPU the row of
    a step is written one batch later, when its figures are on the host without anybody having waited for them; it is
    waited for before a checkpoint notes how far the logs are, before a validation is logged, and at the end.

    Args:
        every_n_steps: `trainer.trainer.log_every_n_steps`.

    Attributes:
        newest_loss: `train/loss` of the newest row.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.newest_loss: float | None = None
        self._every_n_steps = every_n_steps
        self._grad_norm: Tensor | None = None
        self._learning_rate: float | None = None  # of a step that is to be logged
        self._row: _Row | None = None

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure the gradient before it is clipped and note the rate that the step will use, if it is logged."""
        if (trainer.global_step + 1) % self._every_n_steps != 0:
            return
        self._learning_rate = float(optimizer.param_groups[0]["lr"])
        if not isinstance(trainer.strategy, ZeroStrategy):  # which has a part of the gradient on each rank
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._grad_norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log once per optimiser step that is due; with accumulation the step's last batch speaks for it."""
        self._finish(trainer)
        if self._learning_rate is None:
            return
        assert isinstance(pl_module, AutoencoderModule) and pl_module.report is not None
        report = pl_module.report
        names = ["train/loss"] + [f"train/{name}" for name in report.values]
        names += [f"train/{name}_weighted" for name in report.weighted]
        tensors = [report.total, *report.values.values(), *report.weighted.values()]
        means = reduce_over_ranks(torch.stack([tensor.detach().double() for tensor in tensors]), "mean")
        # for schedulers, in the precision in which Lightning keeps numbers; not for its bar, which would read it at
        # every batch
        pl_module.log("train/loss", means[0].to(torch.get_default_dtype()), logger=False, batch_size=1)
        strategy, known = trainer.strategy, {}
        if isinstance(strategy, ZeroStrategy):
            known["train/grad_norm"] = strategy.gradient_norm
        else:
            assert self._grad_norm is not None
            names.append("train/grad_norm")
            means = torch.cat((means, self._grad_norm.detach().double().view(1)))
        known["train/lr"] = self._learning_rate
        self._grad_norm = self._learning_rate = None
        self._row = _Row(names, Readback(means), known, trainer.global_step)
        if not self._row.values.is_late:
            self._finish(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation metrics, those of the untrained model at step 0."""
        assert isinstance(pl_module, AutoencoderModule)
        self._finish(trainer)
        _write(trainer, pl_module.validation_metrics, trainer.global_step)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the newest row, before it is noted how far the logs are."""
        self._finish(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last row."""
        self._finish(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write the newest row, unless the GPU may be waiting for a rank that is gone."""
        if isinstance(exception, StopRequested | TrainingError):
            self._finish(trainer)

    def _finish(self, trainer: pl.Trainer) -> None:
        """Write the row that is on its way, if there is one."""
        row, self._row = self._row, None
        if row is None:
            return
        figures = dict(zip(row.names, row.values.read().tolist(), strict=True))
        self.newest_loss = figures["train/loss"]
        _write(trainer, figures | row.known, row.step)


def _write(trainer: pl.Trainer, metrics: dict[str, float], step: int) -> None:
    epoch = float(_epoch(trainer, step))
    for logger in trainer.loggers:
        logger.log_metrics(metrics | {"epoch": epoch}, step=step)


def _epoch(trainer: pl.Trainer, step: int) -> int:
    """Return the epoch of a step: a function of the step alone, wherever a run was interrupted."""
    if step == 0:
        return 0  # before training Lightning does not know the length of an epoch yet
    return (step - 1) // math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)

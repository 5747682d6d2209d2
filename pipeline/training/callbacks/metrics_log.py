"""Writes what was measured to the loggers, on one step axis: the number of optimiser steps done."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.data.dataset import Batch
from pipeline.training.module import AutoencoderModule
from pipeline.training.zero import ZeroStrategy


class MetricsLog(pl.Callback):
    """Log losses, gradient norm and learning rate every `log_every_n_steps`, and every validation.

    Losses are averaged over all ranks in one collective per logged step; other steps cost nothing.

    Args:
        every_n_steps: `trainer.trainer.log_every_n_steps`.
    """

    def __init__(self, every_n_steps: int) -> None:
        self._every_n_steps = every_n_steps
        self._grad_norm: Tensor | None = None
        self._learning_rate: float | None = None  # of a step that is to be logged

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
        assert isinstance(pl_module, AutoencoderModule)
        if self._learning_rate is None:
            return
        report = pl_module.report
        assert report is not None
        names = ["train/loss"] + [f"train/{name}" for name in report.values]
        names += [f"train/{name}_weighted" for name in report.weighted]
        tensors = [report.total, *report.values.values(), *report.weighted.values()]
        means = trainer.strategy.reduce(
            torch.stack([t.detach().double().cpu() for t in tensors]).to(pl_module.device)
        )
        metrics = dict(zip(names, means.tolist(), strict=True))
        strategy = trainer.strategy
        norm = strategy.gradient_norm if isinstance(strategy, ZeroStrategy) else self._grad_norm
        assert norm is not None
        metrics["train/grad_norm"] = float(norm)
        metrics["train/lr"] = self._learning_rate
        self._grad_norm = self._learning_rate = None
        pl_module.log("train/loss", metrics["train/loss"], prog_bar=True, logger=False, batch_size=1)
        _write(trainer, metrics)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation metrics, those of the untrained model at step 0."""
        assert isinstance(pl_module, AutoencoderModule)
        _write(trainer, pl_module.validation_metrics)


def _write(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    epoch = float(_epoch(trainer))
    for logger in trainer.loggers:
        logger.log_metrics(metrics | {"epoch": epoch}, step=trainer.global_step)


def _epoch(trainer: pl.Trainer) -> int:
    """Return the epoch of the newest step: a function of the step alone, wherever a run was interrupted."""
    if trainer.global_step == 0:
        return 0  # before training Lightning does not know the length of an epoch yet
    return (trainer.global_step - 1) // math.ceil(
        trainer.num_training_batches / trainer.accumulate_grad_batches
    )

"""The learning rate of a real Lightning run, one value per optimiser step."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from pipeline.training.optimizer import build_optimizer
from pipeline.training.schedule import build_scheduler
from pipeline.training.stepping import plateau_config, resolve_stepping


class Rates(pl.LightningModule):
    """A small convolution that notes the learning rate of each of its optimiser steps."""

    def __init__(self, spec, check_val_every_n_epoch=1):
        super().__init__()
        self.network = nn.Conv1d(1, 1, 3)
        self.spec = spec
        self.stepping = resolve_stepping(
            spec["type"],
            interval=None,
            monitor=None,
            default_monitor="val/sisdr",
            metrics=["val/sisdr"],
            check_val_every_n_epoch=check_val_every_n_epoch,
        )
        self.rates = []

    def training_step(self, batch, batch_idx):
        return self.network(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/sisdr", torch.tensor(1.0))  # never improves

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = build_optimizer({"type": "SGD", "config": {"lr": 1e-3}}, self.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": self.stepping.lightning(build_scheduler(self.spec, optimizer)),
        }


def fit(module, num_batches, **settings):
    batches = torch.zeros(num_batches, 1, 1, 8)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(batches[:1], batch_size=None))
    return module.rates


@pytest.mark.parametrize("accumulate", [1, 4])
def test_inverse_lr_over_40_optimiser_steps(accumulate):
    module = Rates({"type": "InverseLR", "config": {"inv_gamma": 5.0, "power": 0.5, "warmup": 0.8}})
    rates = fit(module, 10 * accumulate, max_epochs=4, accumulate_grad_batches=accumulate)
    expected = [(1 - 0.8 ** (t + 1)) * 1e-3 * (1 + t / 5.0) ** -0.5 for t in range(40)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_plateau_steps_after_validations():
    """Validated every second epoch: the first value stays the best, each later one halves the rate."""
    config = plateau_config({"factor": 0.5, "patience": 0}, "val/sisdr")
    module = Rates({"type": "ReduceLROnPlateau", "config": config}, check_val_every_n_epoch=2)
    assert fit(module, 1, max_epochs=7, check_val_every_n_epoch=2) == [1e-3] * 4 + [5e-4] * 2 + [2.5e-4]

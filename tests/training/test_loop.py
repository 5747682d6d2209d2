"""A run that goes on from any position does what the uninterrupted one did after it, event by event."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader
from pipeline.errors import CheckpointError
from pipeline.training.loop import make_exact


class Keys(Dataset):
    def __getitem__(self, key):
        return torch.tensor(key)


class Recorder(pl.LightningModule):
    """Learns from the positions of its samples and notes all that happens to it."""

    def __init__(self, scheduler):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.events = []
        self._scheduler = scheduler

    def training_step(self, batch, batch_idx):
        total = self.trainer.fit_loop.epoch_loop.total_batch_idx
        self.events.append(("batch", self.current_epoch, batch_idx, total, batch[:, 2].tolist()))
        return (self.weight - batch[:, 0].double().mean() / 7) ** 2

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self.events.append(("validation", self.trainer.global_step, float(self.weight.detach())))
        self.log("metric", self.weight.detach().double() * 0 + self.trainer.global_step % 3)

    def on_train_epoch_end(self):
        self.events.append(("epoch", self.current_epoch, self.trainer.global_step, self.rate))

    @property
    def rate(self):
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        if self._scheduler == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.9)
            setting = {"scheduler": plateau, "monitor": "metric", "strict": False, "interval": "epoch"}
            return {"optimizer": optimizer, "lr_scheduler": setting}
        exponential = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": exponential, "interval": self._scheduler},
        }


class Snapshots(pl.Callback):
    """Takes a checkpoint wherever one may be written: between steps, and in the midst of a validation."""

    def __init__(self):
        self.taken = []  # (checkpoint, events before it)

    def take(self, trainer, events):
        self.taken.append((copy.deepcopy(trainer._checkpoint_connector.dump_checkpoint()), events))

    def on_validation_batch_end(self, trainer, pl_module, *ignored):
        if not trainer.sanity_checking and trainer.fit_loop.epoch_loop.is_between_steps:
            self.take(trainer, len(pl_module.events) - 1)


def fit(options, scheduler, path, checkpoint=None, num_workers=0, effective_batch=None):
    accumulate = options.get("accumulate_grad_batches", 1)
    sampler = GlobalBatchSampler(26, 4, seed=1, accumulate=accumulate)
    loader = ResumableLoader(Keys(), sampler, num_workers=num_workers, persistent_workers=num_workers > 0)
    evaluation = DataLoader(torch.zeros(3, 1), batch_size=3)
    module, snapshots = Recorder(scheduler), Snapshots()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        use_distributed_sampler=False,
        enable_checkpointing=False,
        default_root_dir=path,
        callbacks=[snapshots],
        num_sanity_val_steps=1,
        **quiet,
        **options,
    )
    make_exact(
        trainer, effective_batch or 4 * accumulate, lambda: snapshots.take(trainer, len(module.events))
    )
    saved = None
    if checkpoint is not None:
        saved = path / "x.ckpt"
        torch.save(checkpoint, saved)
    trainer.fit(module, loader, evaluation, ckpt_path=saved, weights_only=True)
    module.events.append(("end", trainer.global_step, float(module.weight.detach()), module.rate))
    return module.events, snapshots.taken


CASES = {
    "epochs": ({"max_epochs": 3}, "step"),
    "rare validation": ({"max_epochs": 4, "check_val_every_n_epoch": 2}, "epoch"),
    "validation in mid-epoch": ({"max_epochs": 3, "val_check_interval": 0.4}, "plateau"),
    "validation over epochs": (
        {"max_epochs": 3, "val_check_interval": 4, "check_val_every_n_epoch": None},
        "step",
    ),
    "steps": ({"max_steps": 14, "max_epochs": -1}, "epoch"),
    "steps end with an epoch": ({"max_steps": 12, "max_epochs": -1}, "plateau"),
    "accumulation": ({"max_epochs": 3, "accumulate_grad_batches": 3}, "step"),
    "accumulation, validation within a step": (
        {"max_epochs": 3, "accumulate_grad_batches": 2, "val_check_interval": 1},
        "plateau",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_position_goes_on_as_if_nothing_had_happened(case, tmp_path):
    options, scheduler = CASES[case]
    expected, taken = fit(options, scheduler, tmp_path)
    positions = [checkpoint["loops"]["fit_loop"]["position"] for checkpoint, _ in taken]
    assert len(taken) > 4 and {position["settled"] for position in positions} == {True, False}
    assert expected[-1][1] == positions[-1]["steps"]
    for checkpoint, events in taken:
        found, _ = fit(options, scheduler, tmp_path, checkpoint)
        assert found == expected[events:], checkpoint["loops"]["fit_loop"]["position"]


def test_workers_start_at_the_position(tmp_path):
    options, scheduler = CASES["epochs"]
    expected, taken = fit(options, scheduler, tmp_path)
    for checkpoint, events in taken[3:8:2]:
        found, _ = fit(options, scheduler, tmp_path, checkpoint, num_workers=2)
        assert found == expected[events:]


def test_a_finished_run_may_be_extended(tmp_path):
    for short, long in (
        ({"max_epochs": 2}, {"max_epochs": 3}),
        ({"max_steps": 8, "max_epochs": -1}, {"max_steps": 14, "max_epochs": -1}),
    ):
        _, taken = fit(short, "step", tmp_path)
        expected, of_long = fit(long, "step", tmp_path)
        checkpoint = taken[-1][0]
        position = checkpoint["loops"]["fit_loop"]["position"]
        events = next(
            events for other, events in of_long if other["loops"]["fit_loop"]["position"] == position
        )
        found, _ = fit(long, "step", tmp_path, checkpoint)
        assert found == expected[events:]


def test_another_effective_batch_is_refused(tmp_path):
    options, scheduler = CASES["epochs"]
    _, taken = fit(options, scheduler, tmp_path)
    with pytest.raises(
        CheckpointError, match=r"4 samples per optimiser step.*set trainer\.global_batch_size=4"
    ):
        fit(options, scheduler, tmp_path, taken[0][0], effective_batch=8)


def test_a_horizon_that_is_behind_is_refused(tmp_path):
    _, taken = fit({"max_steps": 8, "max_epochs": -1}, "step", tmp_path)
    for options, message in (
        (
            {"max_steps": 7, "max_epochs": -1},
            "8 steps behind it, trainer.trainer.max_steps=7 is less; valid: 8 or",
        ),
        ({"max_epochs": 0}, "1 epochs behind it, trainer.trainer.max_epochs=0 is less; valid: 1 or more"),
    ):
        with pytest.raises(CheckpointError, match=message):
            fit(options, "step", tmp_path, taken[-1][0])

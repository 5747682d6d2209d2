"""Figures that a GPU gives a batch late change neither what is logged nor what is refused."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from benchmarks.recipe import QUIET, assemble, checked_config
from pipeline.errors import TrainingError
from pipeline.training.callbacks.guard import FiniteLossGuard
from pipeline.training.checkpoint import read
from pipeline.training.readback import Readback
from tests.training.noise_data import NoiseData

STEPS = 7


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setattr(Readback, "is_late", property(lambda self: True))


class SaveEachStep(pl.Callback):
    """Has every step saved, and notes how far the log was by then and what schedulers see."""

    def __init__(self, checkpoints):
        checkpoints.every_n_minutes = 0.0
        self._checkpoints = checkpoints
        self.rows = {}
        self.seen = {}

    def on_train_batch_start(self, trainer, *ignored):
        self._checkpoints.writer.wait()
        if self._checkpoints.store.last.exists():
            stored = read(self._checkpoints.store.last)
            self.rows[stored["global_step"]] = stored["logs"]["csv"]["rows"]
            self.seen[stored["global_step"]] = stored["loops"]["fit_loop"]["monitored"]


class OverflowInStep3(SaveEachStep):
    """Has the third gradient overflow, whose loss is a number."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 2:
            next(pl_module.parameters()).grad.fill_(float("inf"))


def train(run_dir, observer=SaveEachStep):
    checked = checked_config(
        run_dir,
        *QUIET,
        "trainer.num_gpus=0",
        "data.segment_frames=9",
        "data.train_dataloader.batch_size=2",
        "data.train_dataloader.num_workers=0",
        "trainer.trainer.log_every_n_steps=2",
        "trainer.trainer.limit_val_batches=1",
        "trainer.trainer.num_sanity_val_steps=0",
        "trainer.trainer.num_demos=0",
        "trainer.trainer.val_check_interval=4",
        "trainer.trainer.check_val_every_n_epoch=null",
        f"trainer.trainer.max_steps={STEPS}",
        experiment="default",
    )
    observed = []

    def observe(checkpoints):
        observed.append(observer(checkpoints))
        return observed[0]

    run = assemble(checked, observe)
    run.trainer.fit(run.module, datamodule=NoiseData(checked))
    return (run_dir / "metrics.csv").read_text(), observed[0].rows, observed[0].seen


@pytest.fixture(scope="module")
def in_time(tmp_path_factory):
    return train(tmp_path_factory.mktemp("in_time") / "run")


def test_logs_and_checkpoints_are_the_same(in_time, late, tmp_path):
    text, rows, seen = train(tmp_path / "run")
    assert [line.split(",")[0] for line in text.splitlines()] == ["step", "2", "4", "4", "6"]
    assert rows == {1: 0, 2: 1, 3: 1, 4: 3, 5: 3, 6: 4}
    assert "train/loss" in seen[2]
    assert (text, rows, seen) == in_time


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    with pytest.raises(TrainingError, match=r"not finite after step 3[\s\S]*gradient_clip_val"):
        train(tmp_path / "run", OverflowInStep3)
    stored = read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert stored["global_step"] == 2
    assert all(weight.isfinite().all() for weight in stored["state_dict"].values())


def end_batch(guard, loss, name, step):
    trainer = SimpleNamespace(
        global_step=step,
        current_epoch=0,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        gradient_clip_val=1.0,
        precision="32-true",
    )
    guard.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, SimpleNamespace(paths=[name]), 0)
    return trainer


def test_a_loss_that_is_no_number_is_refused_at_the_next_batch(late):
    guard = FiniteLossGuard(patience=0)
    end_batch(guard, 1.0, "good", 1)
    end_batch(guard, float("nan"), "bad", 2)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 2 [\s\S]*files of the batch: bad\n"):
        end_batch(guard, 1.0, "good", 3)


def test_a_loss_that_is_no_number_is_refused_before_it_is_saved(late):
    guard = FiniteLossGuard(patience=1)
    end_batch(guard, float("inf"), "borne", 1)
    trainer = end_batch(guard, float("inf"), "bad", 2)
    with pytest.raises(TrainingError, match=r"the loss is inf at step 2 [\s\S]*files of the batch: bad\n"):
        guard.settle(trainer)


def test_a_loss_that_is_no_number_is_refused_before_its_weights_are_validated(late):
    guard = FiniteLossGuard(patience=0)
    trainer = end_batch(guard, float("nan"), "bad", 1)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1 [\s\S]*files of the batch: bad\n"):
        guard.on_validation_start(trainer, None)


def test_a_readback_keeps_what_the_values_were():
    values = torch.tensor([1.0, 2.0])
    read_back = Readback(values)
    values.zero_()
    assert read_back.read().tolist() == [1.0, 2.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_readback_from_a_gpu_waits_for_no_more_than_what_came_before():
    values = torch.full((), 3.0, device="cuda")
    read_back = Readback(values)
    values.zero_()
    torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    assert read_back.is_late and float(read_back.read()) == 3.0
    assert not torch.cuda.current_stream().query(), "the sleep goes on"
    torch.cuda.synchronize()

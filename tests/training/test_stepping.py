"""When schedulers step, and the settings of ReduceLROnPlateau."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.training.stepping import Stepping, plateau_config, resolve_stepping

METRICS = ("train/loss", "val/sisdr", "val/stft")


def resolve(type_name, interval=None, monitor=None, check_val_every_n_epoch=1):
    return resolve_stepping(
        type_name,
        interval=interval,
        monitor=monitor,
        default_monitor="val/sisdr",
        metrics=METRICS,
        check_val_every_n_epoch=check_val_every_n_epoch,
    )


def test_most_schedulers_follow_optimiser_steps():
    assert resolve("InverseLR") == Stepping("step")
    assert resolve("StepLR", interval="epoch") == Stepping("epoch")


def test_plateau_follows_validations():
    assert resolve("ReduceLROnPlateau") == Stepping("epoch", 1, "val/sisdr")
    assert resolve("ReduceLROnPlateau", "epoch", "val/stft", 5) == Stepping("epoch", 5, "val/stft")
    assert resolve("ReduceLROnPlateau", "epoch", "train/loss", 5) == Stepping("epoch", 1, "train/loss")
    assert resolve("ReduceLROnPlateau", check_val_every_n_epoch=None).frequency == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("StepLR", None, "val/sisdr"), "^trainer.scheduler.monitor='val/sisdr': .*ReduceLROnPlateau"),
        (
            ("ReduceLROnPlateau", None, "val/sisrd"),
            "^trainer.scheduler.monitor='val/sisrd': .*'val/sisdr'.*val/stft",
        ),
        (("ReduceLROnPlateau", "step"), "^trainer.scheduler.interval='step': .*epoch"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ConfigError, match=message):
        resolve(*arguments)


def test_lightning_dictionary():
    scheduler = object()
    assert Stepping("step").lightning(scheduler) == {
        "scheduler": scheduler,
        "interval": "step",
        "frequency": 1,
    }
    plateau = Stepping("epoch", 5, "val/sisdr").lightning(scheduler)
    assert (plateau["frequency"], plateau["monitor"], plateau["strict"]) == (5, "val/sisdr", False)


def test_plateau_mode_follows_the_metric():
    assert plateau_config({"patience": 2}, "val/sisdr") == {"patience": 2, "mode": "max"}
    assert plateau_config({}, "val/stft") == {"mode": "min"}
    assert plateau_config({}, "train/loss") == {"mode": "min"}
    assert plateau_config({"mode": "max"}, "val/sisdr") == {"mode": "max"}
    with pytest.raises(
        ConfigError, match="^trainer.scheduler.config.mode='min': higher is better for val/sisdr"
    ):
        plateau_config({"mode": "min"}, "val/sisdr")


def test_own_scheduler_is_checked_without_torch():
    program = (
        "import sys; from pipeline.training.inverse_curve import reconcile_inverse_lr;"
        "import pipeline.training.stepping;"
        "reconcile_inverse_lr({'power': 0.5}, {}, 'trainer.scheduler.config');"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0

"""A recipe on the default data, as benchmarks need it: checked, with a directory of its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from pipeline.config.compose import collect, settle
from pipeline.launch import preflight
from pipeline.launch.directory import RunDirectory
from pipeline.launch.preflight import Preflight
from pipeline.training import assembly
from pipeline.training.callbacks.build import build_record
from pipeline.training.callbacks.checkpointing import RunCheckpoints
from pipeline.training.callbacks.loss_record import LossRecord
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.module_build import build_module
from pipeline.training.start import Start
from pipeline.training.stopping import StopConditions
from pipeline.training.strategy import Devices
from pipeline.training.watch.watchdog import Watchdog

_CONF = Path(__file__).resolve().parents[1] / "conf"


def checked_config(run_dir: Path, *overrides: str, experiment: str = "full_size_complex") -> Preflight:
    """Return a recipe of `conf/experiment` with overrides, checked; `run_dir` is made."""
    (run_dir / "checkpoints").mkdir(parents=True)
    given = [f"experiment={experiment}", "data.source=default", "data.root=null", f"run.dir={run_dir}"]
    with hydra.initialize_config_dir(str(_CONF), version_base="1.3"):
        tree = hydra.compose("config", overrides=[*given, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(tree)
        with open_dict(tree):
            del tree["hydra"]
        composition = collect(tree)
    return preflight.check(settle(composition), composition.given)


QUIET = (
    "trainer.trainer.limit_val_batches=0",
    "trainer.trainer.save_every_n_epochs=100000",
    "trainer.trainer.save_every_n_minutes=null",
    "trainer.trainer.enable_progress_bar=false",
    "trainer.trainer.enable_model_summary=false",
)
"""Overrides of a run that does nothing but train."""


@dataclass(frozen=True)
class Assembled:
    """A run put together as `train.py` does it, without its supervision.

    Attributes:
        trainer: of Lightning.
        module: the model, its losses and its optimiser.
        checkpoints: the callback that saves.
        store: where it saves.
    """

    trainer: pl.Trainer
    module: pl.LightningModule
    checkpoints: RunCheckpoints
    store: CheckpointStore


def assemble(checked: Preflight, observe: Callable[[RunCheckpoints], pl.Callback]) -> Assembled:
    """Put a run together.

    Args:
        checked: from `checked_config`.
        observe: makes the callback that measures, called before all others.
    """
    config, run, resources = checked.config, RunDirectory.of(checked.config), checked.resources
    module = build_module(config, checked.losses, checked.metrics, checked.stepping, None, checked.form)
    store = CheckpointStore(run.checkpoints, config.trainer.trainer.save_top_k)
    stop = StopConditions(lambda: None, None, time.monotonic())
    checkpoints = assembly.build_checkpoints(config, store, stop, LossRecord(run.path))
    loggers = assembly.build_run_loggers(
        config, checked.losses, run.path, Start(None, None, None, "untrained", ())
    )
    devices = Devices(resources.use_gpu, resources.world_size, resources.effective_batch)
    watchdog = Watchdog(None, rank=0, end=lambda verdict, is_speaker: None)
    record = build_record(config, run.path)
    trainer = assembly.build_trainer(
        config, devices, run.path, run.profiler, loggers, checkpoints, watchdog, record
    )
    trainer.callbacks.insert(0, observe(checkpoints))  # type: ignore[attr-defined]
    return Assembled(trainer, module, checkpoints, store)

"""Builds what a run consists of from its checked configuration; where the floor-3 families meet."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler, PyTorchProfiler

from pipeline.config.deepspeed_schema import deepspeed_config
from pipeline.config.schema import Config
from pipeline.data.datamodule import AudioDataModule
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluation import HIGHER_IS_BETTER
from pipeline.losses.plan import LossPlan
from pipeline.training.callbacks.build import build_callbacks
from pipeline.training.callbacks.checkpointing import RunCheckpoints
from pipeline.training.callbacks.guard import FiniteLossGuard
from pipeline.training.callbacks.loss_record import LossRecord
from pipeline.training.callbacks.progress_record import ProgressRecord
from pipeline.training.callbacks.sample_sequence import SampleSequence
from pipeline.training.callbacks.watch import Watch
from pipeline.training.checkpoints.lightning_io import RunCheckpointIO
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.checkpoints.writer import BackgroundWriter
from pipeline.training.curves import draw_curves
from pipeline.training.loggers import build_loggers
from pipeline.training.loop import make_exact
from pipeline.training.module import AutoencoderModule
from pipeline.training.ranks.agreement import RankAgreement
from pipeline.training.reproducibility import prepare_determinism
from pipeline.training.start import Start
from pipeline.training.stopping import StopConditions
from pipeline.training.strategy import COLLECTIVE_TIMEOUT, Devices, build_strategy, build_zero
from pipeline.training.watch.watchdog import Watchdog

_log = logging.getLogger(__name__)

_SCALER_PATIENCE = 20  # skipped steps in a row that 16-mixed may need to find its loss scale

# Keywords of Lightning's Trainer that pass through as they are.
_PASSED_THROUGH = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "val_check_interval",
    "num_sanity_val_steps",
    "log_every_n_steps",
    "limit_val_batches",
    "overfit_batches",
    "fast_dev_run",
    "benchmark",
    "detect_anomaly",
    "inference_mode",
    "sync_batchnorm",
)


def build_data(config: Config, batch_size: int, accumulate: int) -> AudioDataModule:
    """Build the data module; `batch_size` counts per process, `accumulate` batches per optimiser step."""
    loader = config.data.train_dataloader.model_copy(update={"batch_size": batch_size})
    settings = config.data.model_copy(update={"train_dataloader": loader})
    return AudioDataModule(
        settings,
        seed=config.trainer.seed,
        cache_dir=Path(config.data.cache_dir),
        report=_log.info,
        limit_train_batches=config.trainer.trainer.limit_train_batches,
        accumulate=accumulate,
    )


def build_checkpoints(
    config: Config, store: CheckpointStore, stop: StopConditions, losses: LossRecord
) -> RunCheckpoints:
    """Build what decides when to save and to stop."""
    settings, agreement = config.trainer.trainer, RankAgreement(COLLECTIVE_TIMEOUT)
    return RunCheckpoints(
        store,
        BackgroundWriter(),
        agreement,
        stop,
        FiniteLossGuard(_SCALER_PATIENCE if config.trainer.precision == "16-mixed" else 0),
        SampleSequence(agreement),
        losses,
        monitor=settings.monitor,
        higher_is_better=HIGHER_IS_BETTER[settings.monitor.removeprefix("val/")],
        save_top_k=settings.save_top_k,
        every_n_epochs=settings.save_every_n_epochs,
        every_n_minutes=settings.save_every_n_minutes,
    )


def build_trainer(
    config: Config,
    devices: Devices,
    run_dir: Path,
    profiler_dir: Path,
    loggers: list[Logger],
    checkpoints: RunCheckpoints,
    watchdog: Watchdog,
    record: ProgressRecord,
) -> pl.Trainer:
    """Build Lightning's Trainer for one rank.

    Args:
        config: checked configuration.
        devices: processes and their kind.
        run_dir: the run directory.
        profiler_dir: where profiles are written.
        loggers: from `build_run_loggers`.
        checkpoints: from `build_checkpoints`.
        watchdog: is told where training is.
        record: from `build_record`.
    """
    settings = config.trainer.trainer
    passed = {name: getattr(settings, name) for name in _PASSED_THROUGH}
    if settings.max_time is not None and settings.max_epochs is None:
        passed["max_epochs"] = -1  # Lightning, which does not see max_time, would end after 1000 epochs
    strategy = _build_strategy(config, devices, checkpoints)
    watch = Watch(watchdog, devices.use_gpu)
    batch_size = devices.effective_batch // (devices.world_size * settings.accumulate_grad_batches)
    trainer = pl.Trainer(
        **passed,
        accelerator="gpu" if devices.use_gpu else "cpu",
        devices=devices.world_size // config.trainer.num_nodes,
        num_nodes=config.trainer.num_nodes,
        **strategy,
        deterministic=prepare_determinism(config.trainer.deterministic, settings.strict_deterministic),
        logger=loggers,
        callbacks=build_callbacks(config, batch_size, run_dir, checkpoints, watch, record),
        plugins=[RunCheckpointIO(checkpoints.store, checkpoints.writer)],
        profiler=_build_profiler(settings.profile, profiler_dir),
        default_root_dir=run_dir,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=settings.enable_progress_bar and sys.stdout.isatty(),
        enable_model_summary=False,
    )
    settle = watch.settling(partial(checkpoints.on_settled, trainer), trainer)
    make_exact(trainer, devices.effective_batch, settle)
    return trainer


def _build_strategy(config: Config, devices: Devices, checkpoints: RunCheckpoints) -> dict[str, Any]:
    """Return the Trainer's arguments that say how ranks work together and in what precision."""
    name, precision = config.trainer.strategy, config.trainer.precision
    if name == "deepspeed":
        zero = deepspeed_config(config.trainer.deepspeed)
        return {"strategy": build_zero(zero, precision, devices, checkpoints.store, checkpoints.writer)}
    return {"strategy": build_strategy(name, devices), "precision": precision}


def build_run_loggers(config: Config, losses: LossPlan, run_dir: Path, start: Start) -> list[Logger]:
    """Build the loggers of a run; the columns of metrics.csv follow from its losses and metrics."""
    names = [f"{loss.family}/{loss.name}" for loss in losses.active]
    columns = [
        "train/loss",
        *(f"train/{name}" for name in names),
        *(f"train/{name}_weighted" for name in names),
    ]
    columns += ["train/grad_norm", "train/lr", *(f"val/{name}" for name in config.trainer.eval_loss_config)]
    return build_loggers(
        config.trainer.logger_names,
        run_dir,
        columns,
        wandb_project=config.trainer.wandb.project,
        wandb_name=config.trainer.wandb.name or config.run.name,
        hyperparameters=config.model_dump(),
        mark=start.log_mark,
        resumed_step=start.step,
    )


def _build_profiler(profile: bool, directory: Path) -> Profiler | None:
    if not profile:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    return PyTorchProfiler(dirpath=directory, filename="profile", row_limit=40)


def planned_steps(config: Config, batches: int, accumulate: int) -> int | None:
    """Return the optimiser steps of the whole run, None where no horizon is set or the run is a rehearsal.

    Args:
        config: checked configuration.
        batches: batches of an epoch.
        accumulate: batches per optimiser step.
    """
    settings = config.trainer.trainer
    if settings.fast_dev_run:
        return None
    if settings.overfit_batches:
        share = settings.overfit_batches
        batches = min(batches, share) if isinstance(share, int) else max(1, int(batches * share))
    limits = [settings.max_steps] if settings.max_steps != -1 else []
    if settings.max_epochs not in (None, -1):
        limits.append(settings.max_epochs * -(-batches // accumulate))
    return min(limits, default=None)


def check_intervals(config: Config, batches: int) -> None:
    """Refuse intervals that do not fit the epoch, whose length is known once the audio is.

    Raises:
        ConfigError: validation would be due after the epoch's end.
    """
    settings = config.trainer.trainer
    interval = settings.val_check_interval
    if isinstance(interval, int) and interval > batches and settings.check_val_every_n_epoch is not None:
        raise ConfigError(
            f"trainer.trainer.val_check_interval={interval}: an epoch has {batches} batches; valid: 1 to {batches}, a "
            "share like 0.5, or trainer.trainer.check_val_every_n_epoch=null to count over epochs"
        )
    if 0 < settings.overfit_batches * batches < 1 and isinstance(settings.overfit_batches, float):
        raise ConfigError(
            f"trainer.trainer.overfit_batches={settings.overfit_batches}: less than one of the epoch's {batches} "
            "batches; valid: a number of batches"
        )


def validate_end(trainer: pl.Trainer, module: AutoencoderModule, data: AudioDataModule) -> None:
    """Validate the final weights if training did not end with a validation."""
    in_rehearsal = trainer.fast_dev_run  # type: ignore[attr-defined]
    if module.validated_step != trainer.global_step and not in_rehearsal and trainer.limit_val_batches != 0:
        trainer.validate(module, datamodule=data, verbose=False, weights_only=True)


def draw_run_curves(trainer: pl.Trainer, run_dir: Path) -> None:
    """Draw `curves.png` from what was logged so far."""
    metrics = run_dir / "metrics.csv"
    if trainer.is_global_zero and metrics.exists():
        try:
            draw_curves(metrics, run_dir / "curves.png")
        except (OSError, PipelineError, ValueError, LookupError, TypeError, RuntimeError) as error:
            # a picture never decides how a run ends; a full disk is named by another message
            reason = (str(error) or type(error).__name__).splitlines()[0]
            _log.warning("note: curves.png could not be drawn: %s", reason)

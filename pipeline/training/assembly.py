"""Builds what a run consists of from its checked configuration; where the floor-3 families meet."""

import logging
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelSummary, RichModelSummary, RichProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import Profiler, PyTorchProfiler

from pipeline.config.schema import Config
from pipeline.data.datamodule import AudioDataModule
from pipeline.errors import ConfigError
from pipeline.evaluation import HIGHER_IS_BETTER
from pipeline.evaluation.metrics import build_metrics
from pipeline.losses.composite import build_losses
from pipeline.losses.plan import LossPlan
from pipeline.models.build import build_autoencoder, describe
from pipeline.training.callbacks.bad_files import BadFileReport
from pipeline.training.callbacks.checkpointing import RunCheckpoints
from pipeline.training.callbacks.demos import ValidationDemos
from pipeline.training.callbacks.guard import FiniteLossGuard
from pipeline.training.callbacks.metrics_log import MetricsLog
from pipeline.training.callbacks.progress import Progress
from pipeline.training.checkpoint_io import AtomicCheckpointIO
from pipeline.training.curves import draw_curves
from pipeline.training.loggers import build_loggers
from pipeline.training.module import AutoencoderModule
from pipeline.training.optimizer import build_optimizer
from pipeline.training.reproducibility import BatchSeed, LatentNoise, prepare_determinism, seed_libraries
from pipeline.training.schedule import build_scheduler
from pipeline.training.stepping import Stepping
from pipeline.training.strategy import build_strategy

_log = logging.getLogger(__name__)

_SCALER_PATIENCE = 20  # skipped steps in a row that 16-mixed may need to find its loss scale

# Keywords of Lightning's Trainer that pass through as they are.
_PASSED_THROUGH = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "max_time",
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


def build_module(
    config: Config, losses: LossPlan, metrics: Mapping[str, Mapping[str, Any]], stepping: Stepping
) -> AutoencoderModule:
    """Build model, losses, metrics and optimiser; the initial weights are a function of the seed."""
    data, trainer = config.data, config.trainer
    seed_libraries(trainer.seed, "initial weights")
    description = describe(
        config.model.model_dump(), data.stft.model_dump(), data.sample_rate_hz, data.channels
    )
    return AutoencoderModule(
        autoencoder=build_autoencoder(description),
        losses=build_losses(losses, sample_rate_hz=data.sample_rate_hz),
        metrics=build_metrics(metrics, sample_rate_hz=data.sample_rate_hz),
        noise=LatentNoise(trainer.seed),
        optimizers=partial(_build_optimization, config, stepping),
        inference=description,
    )


def _build_optimization(
    config: Config, stepping: Stepping, parameters: list[torch.nn.Parameter], num_steps: int | None
) -> dict[str, Any]:
    """Return what Lightning's `configure_optimizers` returns."""
    optimizer = build_optimizer(config.trainer.optimizer.model_dump(), parameters)
    if not config.trainer.scheduler.enabled:
        return {"optimizer": optimizer}
    spec = config.trainer.scheduler.model_dump(include={"type", "config"})
    scheduler = build_scheduler(spec, optimizer, num_steps=num_steps if stepping.interval == "step" else None)
    return {"optimizer": optimizer, "lr_scheduler": stepping.lightning(scheduler)}


def build_data(config: Config, batch_size: int) -> AudioDataModule:
    """Build the data module; `batch_size` counts per process."""
    loader = config.data.train_dataloader.model_copy(update={"batch_size": batch_size})
    settings = config.data.model_copy(update={"train_dataloader": loader})
    return AudioDataModule(
        settings,
        seed=config.trainer.seed,
        cache_dir=Path(config.data.cache_dir),
        report=_log.info,
        limit_train_batches=config.trainer.trainer.limit_train_batches,
    )


def build_trainer(
    config: Config,
    world_size: int,
    use_gpu: bool,
    run_dir: Path,
    checkpoints: Path,
    profiler_dir: Path,
    loggers: list[Logger],
) -> pl.Trainer:
    """Build Lightning's Trainer for one rank.

    Args:
        config: checked configuration.
        world_size: processes over all nodes.
        use_gpu: one GPU per process, or the CPU.
        run_dir: the run directory.
        checkpoints: where checkpoints are written.
        profiler_dir: where profiles are written.
        loggers: from `build_run_loggers`.
    """
    settings = config.trainer.trainer
    passed = {name: getattr(settings, name) for name in _PASSED_THROUGH}
    return pl.Trainer(
        **passed,
        accelerator="gpu" if use_gpu else "cpu",
        devices=world_size // config.trainer.num_nodes,
        num_nodes=config.trainer.num_nodes,
        strategy=build_strategy(config.trainer.strategy, world_size, use_gpu),
        precision=config.trainer.precision,
        deterministic=prepare_determinism(config.trainer.deterministic, settings.strict_deterministic),
        logger=loggers,
        callbacks=_build_callbacks(config, run_dir, checkpoints),
        plugins=[AtomicCheckpointIO()],
        profiler=_build_profiler(settings.profile, profiler_dir),
        default_root_dir=run_dir,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=settings.enable_progress_bar and sys.stdout.isatty(),
        enable_model_summary=False,
    )


def build_run_loggers(
    config: Config, losses: LossPlan, run_dir: Path, resumed_step: int | None
) -> list[Logger]:
    """Build the loggers of a run; the columns of metrics.csv follow from its losses and metrics."""
    names = [f"{loss.family}/{loss.name}" for loss in losses.active]
    columns = [
        "train/loss",
        *(f"train/{name}" for name in names),
        *(f"train/{name}_weighted" for name in names),
    ]
    columns += ["train/grad_norm", "train/lr", *(f"val/{name}" for name in config.trainer.eval_loss_config)]
    wandb = config.trainer.wandb
    return build_loggers(
        config.trainer.logger_names,
        run_dir,
        columns,
        wandb_project=wandb.project,
        wandb_name=wandb.name or config.run.name,
        hyperparameters=config.model_dump(),
        resumed_step=resumed_step,
    )


def _build_callbacks(config: Config, run_dir: Path, checkpoints: Path) -> list[pl.Callback]:
    settings = config.trainer.trainer
    guard = FiniteLossGuard(_SCALER_PATIENCE if config.trainer.precision == "16-mixed" else 0)
    on_terminal = sys.stdout.isatty()
    callbacks: list[pl.Callback] = [
        BatchSeed(config.trainer.seed),
        guard,
        BadFileReport(),
        MetricsLog(settings.log_every_n_steps),
        Progress(plain_lines=settings.enable_progress_bar and not on_terminal),
        ValidationDemos(
            run_dir / "media", config.data.sample_rate_hz, settings.num_demos, settings.demo_seconds
        ),
        RunCheckpoints(
            directory=checkpoints,
            monitor=settings.monitor,
            higher_is_better=HIGHER_IS_BETTER[settings.monitor.removeprefix("val/")],
            save_top_k=settings.save_top_k,
            every_n_epochs=settings.save_every_n_epochs,
            guard=guard,
        ),
    ]
    if settings.enable_model_summary:
        callbacks.append(RichModelSummary(max_depth=2) if on_terminal else ModelSummary(max_depth=2))
    if settings.enable_progress_bar and on_terminal:
        callbacks.append(_Bar())
    return callbacks


class _Bar(RichProgressBar):
    """Lightning's bar without the version number that loggers report."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the figures behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


def _build_profiler(profile: bool, directory: Path) -> Profiler | None:
    if not profile:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    return PyTorchProfiler(dirpath=directory, filename="profile", row_limit=40)


def check_intervals(config: Config, data: AudioDataModule, global_batch: int) -> None:
    """Refuse intervals that do not fit the epoch, whose length is known once the audio is.

    Raises:
        ConfigError: validation would be due after the epoch's end.
    """
    settings, batches = config.trainer.trainer, data.batches_per_epoch(global_batch)
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
    if module.validated_step == trainer.global_step or in_rehearsal or trainer.limit_val_batches == 0:
        return
    trainer.validate(module, datamodule=data, verbose=False, weights_only=True)
    _checkpointing(trainer).enter_last(trainer, module)


def best(trainer: pl.Trainer) -> tuple[str, float] | None:
    """Return the monitored metric and its best value."""
    callback = _checkpointing(trainer)
    return None if callback.best_value is None else (callback.monitor, callback.best_value)


def draw_run_curves(trainer: pl.Trainer, run_dir: Path) -> None:
    """Draw `curves.png` from what was logged so far."""
    metrics = run_dir / "metrics.csv"
    if trainer.is_global_zero and metrics.exists():
        draw_curves(metrics, run_dir / "curves.png")


def _checkpointing(trainer: pl.Trainer) -> RunCheckpoints:
    return next(callback for callback in trainer.callbacks if isinstance(callback, RunCheckpoints))  # type: ignore[attr-defined]

"""The callbacks of a run, in the order in which they act."""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelSummary, RichModelSummary, RichProgressBar

from pipeline.config.schema import Config
from pipeline.evaluation import HIGHER_IS_BETTER
from pipeline.training.callbacks.bad_files import BadFileReport
from pipeline.training.callbacks.checkpointing import RunCheckpoints
from pipeline.training.callbacks.demos import ValidationDemos
from pipeline.training.callbacks.metrics_log import MetricsLog
from pipeline.training.callbacks.progress import Progress
from pipeline.training.callbacks.progress_record import ProgressRecord
from pipeline.training.callbacks.rehearsal import Rehearsal
from pipeline.training.callbacks.watch import Watch
from pipeline.training.reproducibility import BatchSeed


def build_callbacks(
    config: Config,
    batch_size: int,
    run_dir: Path,
    checkpoints: RunCheckpoints,
    watch: Watch,
    record: ProgressRecord,
) -> list[pl.Callback]:
    """Build the callbacks of a run.

    Args:
        config: checked configuration.
        batch_size: samples of a batch of this process.
        run_dir: the run directory.
        checkpoints: acts last, so that what it saves includes all that the others did.
        watch: acts first, so that it knows where the others are.
        record: from `build_record`.
    """
    settings = config.trainer.trainer
    on_terminal = sys.stdout.isatty()
    log = MetricsLog(settings.log_every_n_steps)
    callbacks: list[pl.Callback] = [
        watch,
        Rehearsal(batch_size, config.data.channels, config.data.segment_samples, watch.watchdog),
        BatchSeed(config.trainer.seed),
        checkpoints.guard,
        checkpoints.sequence,
        checkpoints.losses,
        BadFileReport(),
        log,
        Progress(plain_lines=settings.enable_progress_bar and not on_terminal),
        record,
        ValidationDemos(
            run_dir / "media", config.data.sample_rate_hz, settings.num_demos, settings.demo_seconds
        ),
    ]
    if settings.enable_model_summary:
        callbacks.append(RichModelSummary(max_depth=2) if on_terminal else ModelSummary(max_depth=2))
    if settings.enable_progress_bar and on_terminal:
        callbacks.append(_Bar(log))
    return [*callbacks, checkpoints]


def build_record(config: Config, run_dir: Path) -> ProgressRecord:
    """Build what keeps `progress.json`."""
    settings = config.trainer.trainer
    horizon = {"max_epochs": settings.max_epochs, "max_steps": settings.max_steps}
    higher_is_better = HIGHER_IS_BETTER[settings.monitor.removeprefix("val/")]
    return ProgressRecord(run_dir, horizon, settings.monitor, higher_is_better)


class _Bar(RichProgressBar):
    """Lightning's bar without the version number that loggers report, with the newest loss that is on the host.

    Args:
        log: has it.
    """

    def __init__(self, log: MetricsLog) -> None:
        super().__init__()
        self._log = log

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the figures behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._log.newest_loss is not None:
            metrics["train/loss"] = self._log.newest_loss
        return metrics

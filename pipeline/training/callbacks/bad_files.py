"""Names files that turn out bad while they are read; the scan at the start finds most of them."""

from typing import Any

import pytorch_lightning as pl

from pipeline.data.datamodule import AudioDataModule
from pipeline.data.dataset import Batch


class BadFileReport(pl.Callback):
    """Hand every batch's bad files to the data module, which names each once and stops where there are too many."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Report a training batch."""
        _record(trainer, batch)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Report a validation batch."""
        _record(trainer, batch)


def _record(trainer: pl.Trainer, batch: Batch) -> None:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, AudioDataModule)
    data.record_bad(batch)

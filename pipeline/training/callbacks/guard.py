"""Stops a run whose loss is no longer a number, before anything of it is saved."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.utils import get_total_norm

from pipeline.data.dataset import Batch
from pipeline.errors import TrainingError
from pipeline.training.readback import Readback


class _Batch(NamedTuple):
    """What is said of a batch if its loss is not finite."""

    loss: Readback
    paths: Sequence[str]
    step: int
    epoch: int


class FiniteLossGuard(pl.Callback):
    """Raise TrainingError when the loss is not finite, naming the batch's files.

    On a GPU the check runs one batch late: while the host waits for the former batch, the GPU has this one to do.
    Callbacks that save call `settle` first.

    Args:
        patience: consecutive non-finite batches that are borne; above 0 under 16-mixed, where the gradient scaler
            skips such steps while it searches for its scale.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._consecutive = 0
        self._pending: _Batch | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches in a row were not finite."""
        return {"consecutive": self._consecutive}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._consecutive = int(state_dict["consecutive"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Check the former batch on a GPU, this one on the CPU."""
        loss = Readback(outputs["loss"])
        newest = _Batch(loss, batch.paths, trainer.global_step, trainer.current_epoch)
        previous, self._pending = self._pending, newest
        if not loss.is_late:
            self.settle(trainer)
        elif previous is not None:
            self._check(trainer, previous)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the newest batch: a validation of weights that are not finite may end in an error of its own."""
        self.settle(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last batch."""
        self.settle(trainer)

    def settle(self, trainer: pl.Trainer) -> None:
        """Check the newest batch now."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._check(trainer, pending)

    def require_finite(self, trainer: pl.Trainer, weights: Sequence[Tensor]) -> None:
        """Check what is about to be saved: a gradient may overflow where the loss does not.

        Raises:
            TrainingError: a weight is no number.
        """
        if math.isfinite(get_total_norm([weight.detach() for weight in weights], math.inf)):
            return
        raise TrainingError(
            f"a weight is not finite after step {trainer.global_step}, although the losses were: a gradient has "
            f"overflowed; nothing was saved since the last good save.\n  remedies: {_remedies(trainer)}"
        )

    def _check(self, trainer: pl.Trainer, batch: _Batch) -> None:
        loss = float(batch.loss.read())
        if math.isfinite(loss):
            self._consecutive = 0
            return
        self._consecutive += 1
        if self._consecutive <= self._patience:
            return
        files = list(dict.fromkeys(batch.paths))
        raise TrainingError(
            f"the loss is {loss} at step {batch.step} (epoch {batch.epoch}); nothing was saved since the last good "
            f"step.\n  files of the batch: {', '.join(files)}\n  remedies: {_remedies(trainer)}"
        )


def _remedies(trainer: pl.Trainer) -> str:
    rates = ", ".join(f"{group['lr']:.3g}" for group in trainer.optimizers[0].param_groups)
    return (
        f"a lower trainer.optimizer.config.lr (now {rates}); gradient clipping with "
        f"trainer.trainer.gradient_clip_val (now {trainer.gradient_clip_val}); trainer.precision=32-true (now "
        f"{trainer.precision}); a norm in model.encoder.config.norm and model.decoder.config.norm"
    )

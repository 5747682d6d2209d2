"""Decides when a checkpoint is written, which ones stay, and what `best` and `last` mean."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipeline.training.callbacks.guard import FiniteLossGuard
from pipeline.training.checkpoint import BEST, LAST, link
from pipeline.training.module import AutoencoderModule


class RunCheckpoints(pl.Callback):
    """Keep `last.ckpt`, `best.ckpt` and the `save_top_k` best by one validation metric.

    Args:
        directory: where checkpoints are written.
        monitor: validation metric, as logged (`val/sisdr`).
        higher_is_better: its direction.
        save_top_k: how many ranked checkpoints stay; -1 keeps all, 0 keeps only `last.ckpt`.
        every_n_epochs: how often a checkpoint is written.
        guard: asked before each save whether the newest loss is finite.
    """

    def __init__(
        self,
        directory: Path,
        monitor: str,
        higher_is_better: bool,
        save_top_k: int,
        every_n_epochs: int,
        guard: FiniteLossGuard,
    ) -> None:
        self.directory = directory
        self.monitor = monitor
        self._sign = 1.0 if higher_is_better else -1.0
        self._save_top_k = save_top_k
        self._every_n_epochs = every_n_epochs
        self._guard = guard
        self._ranking: list[tuple[float, str]] = []  # (metric, file name), best first
        self._saved_step = -1

    @property
    def best_value(self) -> float | None:
        """The best monitored value so far."""
        return self._ranking[0][0] if self._ranking else None

    def state_dict(self) -> dict[str, Any]:
        """Return the ranking, as plain data."""
        return {"ranking": [list(entry) for entry in self._ranking], "saved_step": self._saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the ranking of the resumed run."""
        self._ranking = [(float(value), str(name)) for value, name in state_dict["ranking"]]
        self._saved_step = int(state_dict["saved_step"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation in mid-epoch; the one at an epoch's end is saved with the epoch."""
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        if fitting and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and self._due(trainer):
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of every n-th epoch."""
        if self._due(trainer):
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of training, wherever it fell."""
        if self._saved_step != trainer.global_step:
            self._save(trainer, pl_module)
        if trainer.is_global_zero and self._save_top_k != 0 and not (self.directory / BEST).exists():
            link(self.directory / LAST, self.directory / BEST)

    def enter_last(self, trainer: pl.Trainer, module: AutoencoderModule) -> None:
        """Rank `last.ckpt` by a validation that came after it was written."""
        if self._save_top_k == 0 or module.validated_step != self._saved_step:
            return
        name = _own_name(trainer)
        self._rank(module.validation_metrics[self.monitor], name)
        ranked = [entry[1] for entry in self._ranking]
        if trainer.is_global_zero and name in ranked:
            link(self.directory / LAST, self.directory / name)
            self._tidy(ranked, name)

    def _due(self, trainer: pl.Trainer) -> bool:
        return (trainer.current_epoch + 1) % self._every_n_epochs == 0

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AutoencoderModule)
        self._guard.settle(trainer)
        self._saved_step = trainer.global_step
        own_name = _own_name(trainer)
        if self._save_top_k != 0 and pl_module.validated_step == trainer.global_step:
            self._rank(pl_module.validation_metrics[self.monitor], own_name)
        ranked = [name for _, name in self._ranking]
        name = own_name if own_name in ranked or self._save_top_k == -1 else LAST
        trainer.save_checkpoint(self.directory / name)
        if not trainer.is_global_zero:
            return
        if name != LAST:
            link(self.directory / name, self.directory / LAST)
        self._tidy(ranked, name)

    def _tidy(self, ranked: list[str], newest: str) -> None:
        if ranked and ranked[0] == newest:
            link(self.directory / newest, self.directory / BEST)
        if self._save_top_k > 0:
            for path in self.directory.glob("step-*.ckpt"):
                if path.name not in ranked:
                    path.unlink()

    def _rank(self, value: float, name: str) -> None:
        entries = [entry for entry in self._ranking if entry[1] != name] + [(value, name)]
        entries.sort(
            key=lambda entry: -self._sign * entry[0]
        )  # stable: of equals the earlier one stays ahead
        self._ranking = entries[: self._save_top_k] if self._save_top_k > 0 else entries


def _own_name(trainer: pl.Trainer) -> str:
    return f"step-{trainer.global_step:08d}.ckpt"

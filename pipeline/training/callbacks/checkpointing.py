"""Decides when a checkpoint is written, which ones stay, and when a run saves and stops."""

import time
from functools import partial
from typing import Any

import pytorch_lightning as pl

from pipeline.data.dataset import Batch
from pipeline.errors import LaunchError
from pipeline.training.callbacks.guard import FiniteLossGuard
from pipeline.training.callbacks.loss_record import LossRecord
from pipeline.training.callbacks.sample_sequence import SampleSequence
from pipeline.training.checkpoint import BEST
from pipeline.training.checkpoints.file import link
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.checkpoints.writer import BackgroundWriter
from pipeline.training.loggers import mark_logs
from pipeline.training.loop import ExactFitLoop
from pipeline.training.module import AutoencoderModule
from pipeline.training.ranks.agreement import Decision, RankAgreement, StopRequested
from pipeline.training.stopping import StopConditions
from pipeline.training.zero import ZeroStrategy


class RunCheckpoints(pl.Callback):
    """Keep `last.ckpt`, `best.ckpt` and the `save_top_k` best by one validation metric.

    All ranks decide together after each optimiser step, so that they save and stop at the same one.

    Args:
        store: the run's checkpoints on disk.
        writer: the thread that writes them.
        agreement: how ranks decide together.
        stop: why the run is to stop, if it is.
        guard: asked before each save whether the newest loss is finite.
        sequence: adds up over the ranks before each save.
        losses: knows when a repetition of the first steps is over.
        monitor: validation metric, as logged (`val/sisdr`).
        higher_is_better: its direction.
        save_top_k: how many ranked checkpoints stay; -1 keeps all, 0 keeps only `last.ckpt`.
        every_n_epochs: how often a checkpoint is written at an epoch's end and after a validation.
        every_n_minutes: and how often besides; None is never.

    Attributes:
        blocked_s: time that training was held up, for each save, in seconds.
    """

    def __init__(
        self,
        store: CheckpointStore,
        writer: BackgroundWriter,
        agreement: RankAgreement,
        stop: StopConditions,
        guard: FiniteLossGuard,
        sequence: SampleSequence,
        losses: LossRecord,
        *,
        monitor: str,
        higher_is_better: bool,
        save_top_k: int,
        every_n_epochs: int,
        every_n_minutes: float | None,
    ) -> None:
        self.store = store
        self.writer = writer
        self.monitor = monitor
        self._agreement = agreement
        self._stop = stop
        self.guard = guard
        self.sequence = sequence
        self.losses = losses
        self._sign = 1.0 if higher_is_better else -1.0
        self._save_top_k = save_top_k
        self._every_n_epochs = every_n_epochs
        self.every_n_minutes = every_n_minutes
        self._ranking: list[tuple[float, str]] = []  # (metric, file name), best first
        self._saved_step = -1
        self._has_room = False
        self.blocked_s: list[float] = []
        self._last_save_s = 0.0
        self._shared_batches = 0  # validation batches that every rank has

    @property
    def best(self) -> tuple[str, float] | None:
        """The monitored metric and its best value so far."""
        return (self.monitor, self._ranking[0][0]) if self._ranking else None

    def state_dict(self) -> dict[str, Any]:
        """Return the ranking, as plain data."""
        return {"ranking": [list(entry) for entry in self._ranking], "saved_step": self._saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the ranking of the resumed run."""
        self._ranking = [(float(value), str(name)) for value, name in state_dict["ranking"]]
        self._saved_step = int(state_dict["saved_step"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how far the logs are, so that a run that goes on from here logs nothing twice."""
        checkpoint["logs"] = mark_logs(trainer.loggers) if trainer.is_global_zero else {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Connect the ranks."""
        self._agreement.connect()
        self._last_save_s = time.monotonic()  # so that no save is due in the validation before training

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish what a kill has cut short."""
        if trainer.is_global_zero:
            self.store.repair([name for _, name in self._ranking], _name(self._saved_step))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that all ranks start at one place.

        Raises:
            LaunchError: ranks have found different checkpoints.
        """
        self._last_save_s = time.monotonic()
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        if self._agreement.greatest(batches) != -self._agreement.greatest(-batches):
            raise LaunchError(
                f"the processes of this run have found different checkpoints in {self.store.directory}; "
                "is it one folder on all nodes?"
            )

    def on_settled(self, trainer: pl.Trainer) -> None:
        """Save and stop where it is due; called between two optimiser steps, when all that follows one is done.

        Raises:
            StopRequested: after a signal or at the end of the time, when everything is saved; at the end of a
                repetition of the first steps, of which nothing is.
            CheckpointError: a checkpoint could not be written.
        """
        decision = self._agreement.decide(self._wish(trainer))
        if self.losses.is_over(trainer.global_step):
            self._leave()
        self.writer.check()
        self._reserve(trainer)
        is_end = trainer.fit_loop.done
        is_due = self._is_due(trainer)
        if is_end or is_due or decision is not Decision.GO_ON:
            self._save(trainer, may_rank=is_due)  # as in a longer run; `finish` ranks the end of this one
        if decision is Decision.STOP and not is_end:
            self._leave()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find how many validation batches every rank has: so often can all decide together."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._shared_batches = -self._agreement.greatest(-int(sum(batches)))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop in the midst of a validation; it is run again, from its start, when the run goes on.

        Raises:
            StopRequested: what was trained is saved.
        """
        loop = trainer.fit_loop
        assert isinstance(loop, ExactFitLoop)
        is_training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if batch_idx >= self._shared_batches or (is_training and not loop.epoch_loop.is_between_steps):
            return  # gradients that wait for the rest of an optimiser step are not stored
        if self._agreement.decide(self._wish(trainer)) is Decision.STOP:
            if is_training:
                self._save(trainer, may_rank=False)
            self._leave()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait until everything is written."""
        self.writer.wait()

    def finish(self, trainer: pl.Trainer, module: AutoencoderModule) -> None:
        """Rank `last.ckpt` by a validation that came after it was written; the best is there even without any.

        Args:
            trainer: whose training is over.
            module: holds the newest validation.

        Raises:
            CheckpointError: the disk is too full to turn checkpoints with shards into single files.
        """
        if not trainer.is_global_zero:
            return
        if self._save_top_k != 0:
            self._rank_end(module)
        self.store.unite()

    def _rank_end(self, module: AutoencoderModule) -> None:
        name = _name(self._saved_step)
        if module.validated_step == self._saved_step:
            self._rank(module.validation_metrics[self.monitor], name)
        ranked = [entry[1] for entry in self._ranking]
        self.store.enter([name] if name in ranked or self._save_top_k == -1 else [], ranked)
        if self.store.last.exists() and not (self.store.directory / BEST).exists():
            link(self.store.last, self.store.directory / BEST)

    def _reserve(self, trainer: pl.Trainer) -> None:
        """Have memory made for the first save, once the optimiser has its state."""
        strategy = trainer.strategy
        if not self._has_room and (trainer.is_global_zero or isinstance(strategy, ZeroStrategy)):
            states = [strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers]
            state = {"state_dict": trainer.lightning_module.state_dict(), "optimizer_states": states}
            self.writer.reserve(strategy.parts(state) if isinstance(strategy, ZeroStrategy) else state)
        self._has_room = True

    def _wish(self, trainer: pl.Trainer) -> Decision:
        if self._stop.reason(self.writer.slowest_s) is not None:
            return Decision.STOP
        if self.every_n_minutes is None or not trainer.is_global_zero or self.writer.is_busy:
            return Decision.GO_ON
        is_time = time.monotonic() - self._last_save_s >= 60 * self.every_n_minutes
        return Decision.SAVE if is_time else Decision.GO_ON

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether an n-th epoch has just ended, or a validation in its midst."""
        loop, module = trainer.fit_loop, trainer.lightning_module
        assert isinstance(loop, ExactFitLoop) and isinstance(module, AutoencoderModule)
        position = loop.position
        if position.samples == 0:
            return position.epoch % self._every_n_epochs == 0
        is_validated = module.validated_step == trainer.global_step
        return is_validated and (position.epoch + 1) % self._every_n_epochs == 0

    def _save(self, trainer: pl.Trainer, may_rank: bool) -> None:
        began = time.perf_counter()
        module = trainer.lightning_module
        assert isinstance(module, AutoencoderModule)
        self.guard.settle(trainer)
        self.guard.require_finite(trainer, module.trained_parameters)
        self.sequence.gather()  # no rank stands at a loss that is not finite: it would be missing here
        self._saved_step = trainer.global_step
        own_name = _name(self._saved_step)
        if may_rank and self._save_top_k != 0 and module.validated_step == trainer.global_step:
            self._rank(module.validation_metrics[self.monitor], own_name)
        ranked = [name for _, name in self._ranking]
        is_kept = own_name in ranked or (may_rank and self._save_top_k == -1)
        then = partial(self.store.enter, [own_name] if is_kept else [], ranked)
        trainer.save_checkpoint(self.store.last, storage_options=then)
        self._last_save_s = time.monotonic()
        self.blocked_s.append(time.perf_counter() - began)

    def _leave(self) -> None:
        self.writer.wait()
        self._agreement.close()
        self._agreement.greatest(0)  # nobody leaves before the first rank has written
        raise StopRequested(
            self._stop.reason(self.writer.slowest_s) or "another process of the run was asked to stop"
        )

    def _rank(self, value: float, name: str) -> None:
        entries = [entry for entry in self._ranking if entry[1] != name] + [(value, name)]
        entries.sort(
            key=lambda entry: -self._sign * entry[0]
        )  # stable: of equals the earlier one stays ahead
        self._ranking = entries[: self._save_top_k] if self._save_top_k > 0 else entries


def _name(step: int) -> str:
    return f"step-{step:08d}.ckpt"

"""Where a run stands, as four numbers, and Lightning's fit loop made to go on exactly there.

Lightning stores some thirty counters and guesses from them in which of its hooks a checkpoint was written; some guesses
lose an epoch or a validation. Here a checkpoint is only ever written between two optimiser steps, and says whether what
follows a step (validation, schedulers that wait for it, the epoch's end) is behind it or still to come.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from pipeline.data.sampler import ResumableLoader
from pipeline.errors import CheckpointError


@dataclass(frozen=True)
class Position:
    """Where a run stands, between two optimiser steps.

    Attributes:
        epoch: whole epochs behind.
        samples: samples of the next epoch that are behind, over all ranks.
        steps: optimiser steps done.
        settled: whether the validation, the schedulers and the epoch's end that follow these samples are behind, too.
    """

    epoch: int
    samples: int
    steps: int
    settled: bool


class ExactFitLoop(_FitLoop):
    """Lightning's loop over epochs, restored from a Position.

    Args:
        trainer: whose loop it becomes.
        effective_batch: samples per optimiser step over all ranks; a run cannot go on with another.
        on_settled: called after each optimiser step and all that follows it, when a checkpoint may be written.
    """

    epoch_loop: "ExactEpochLoop"

    def __init__(self, trainer: pl.Trainer, effective_batch: int, on_settled: Callable[[], None]) -> None:
        former = trainer.fit_loop
        super().__init__(trainer, min_epochs=former.min_epochs, max_epochs=former.max_epochs)
        self.epoch_loop = ExactEpochLoop(trainer, min_steps=former.min_steps, max_steps=former.max_steps)
        self.position = Position(epoch=0, samples=0, steps=0, settled=True)
        self._effective_batch = effective_batch
        self._on_settled = on_settled
        self._epoch_samples = 0  # of the checkpoint
        self._is_restored = False

    @property
    def done(self) -> bool:
        """Whether training is over; never while something of the last step is to come."""
        return not self.epoch_loop.is_unsettled and super().done

    def state_dict(self, destination: dict[str, Any] | None = None, prefix: str = "") -> dict[str, Any]:
        """Return the position and what schedulers last saw of the metrics, as plain data."""
        seen = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        return {
            "position": asdict(self.position),
            "effective_batch": self._effective_batch,
            "epoch_samples": int(self.max_batches) * self._loader().global_batch,
            "monitored": {**self.epoch_loop.monitored, **seen},
        }

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Take up a position; the counters of batches follow when the loader is there.

        Raises:
            CheckpointError: the checkpoint was written with another number of samples per optimiser step, or has
                more epochs or steps behind it than the run may have.
        """
        assert self._combined_loader is None, "the loader must not start before the position is known"
        stored = state_dict["effective_batch"]
        if stored != self._effective_batch:
            raise CheckpointError(
                f"the run has {stored} samples per optimiser step so far, and would go on with "
                f"{self._effective_batch}; set trainer.global_batch_size={stored}"
            )
        self.position = Position(**state_dict["position"])
        self._check_horizon()
        self._epoch_samples = int(state_dict["epoch_samples"])
        self.epoch_loop.monitored = dict(state_dict["monitored"])
        self._is_restored = True
        for tracker in (self.epoch_progress.current, self.epoch_progress.total):
            tracker.ready = tracker.completed = self.position.epoch
            tracker.started = tracker.processed = self.position.epoch  # type: ignore[attr-defined]
        self.epoch_loop.restore_steps(self.position.steps)
        self._resuming_from_checkpoint = True  # the first epoch takes the iterator that setup_data has made

    def _check_horizon(self) -> None:
        position = self.position
        behind = (("epochs", position.epoch, self.max_epochs), ("steps", position.steps, self.max_steps))
        for unit, done, most in behind:
            if most not in (None, -1) and done > most:
                raise CheckpointError(
                    f"the run has {done} {unit} behind it, trainer.trainer.max_{unit}={most} is less; "
                    f"valid: {done} or more"
                )

    def setup_data(self) -> None:
        """Make the loader start at the restored position, and set the counters of batches."""
        is_new = self._combined_loader is None
        super().setup_data()
        if is_new and self._is_restored:
            self._is_restored = False
            self._check_epoch()
            batches = self.position.samples // self._loader().global_batch
            self.epoch_loop.restore_batches(
                batches, self.position.epoch * int(self.max_batches) + batches, int(self.max_batches)
            )
            self.epoch_loop.is_unsettled = not self.position.settled

    def _check_epoch(self) -> None:
        """Refuse an epoch of another length: positions in it would mean other samples.

        Raises:
            CheckpointError: with both lengths.
        """
        samples = int(self.max_batches) * self._loader().global_batch
        if samples != self._epoch_samples:
            raise CheckpointError(
                f"an epoch of the run has {self._epoch_samples} samples, and would go on with {samples}: the audio has "
                "changed (run.init_from starts a new run on it), or trainer.trainer.limit_train_batches or "
                "overfit_batches count batches of another size (keep data.train_dataloader.batch_size and the number "
                "of processes)"
            )

    def _load_combined_loader_states(self) -> None:
        """Called by `setup_data` before the loader's workers start."""
        if self._is_restored:
            self._loader().seek(self.position.epoch, self.position.samples)

    def on_advance_end(self) -> None:
        """End an epoch; one that the horizon cut short does not end, so that a longer horizon finds it as it was."""
        if self.epoch_loop.is_epoch_over:
            super().on_advance_end()
            self._settle(self._epochs_behind, 0)

    def note_step(self) -> None:
        """Move the position behind an optimiser step whose validation is still to come."""
        self.position = self._here(settled=False)

    def settle_step(self) -> None:
        """Move the position behind an optimiser step and what followed it."""
        here = self._here(settled=True)
        self._settle(here.epoch, here.samples)

    def _settle(self, epoch: int, samples: int) -> None:
        self.position = Position(epoch, samples, self.epoch_loop.global_step, settled=True)
        self._on_settled()

    def _here(self, settled: bool) -> Position:
        samples = self.epoch_loop.batch_progress.current.ready * self._loader().global_batch
        return Position(self._epochs_behind, samples, self.epoch_loop.global_step, settled)

    @property
    def _epochs_behind(self) -> int:
        return int(self.epoch_progress.current.processed)  # type: ignore[attr-defined]

    def _loader(self) -> ResumableLoader:
        assert self._combined_loader is not None
        (loader,) = self._combined_loader.flattened
        assert isinstance(loader, ResumableLoader)
        return loader


class ExactEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over batches, which tells the loop above after each optimiser step."""

    def __init__(self, trainer: pl.Trainer, min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps=min_steps, max_steps=max_steps)
        self.is_unsettled = False  # a restored step whose validation and the like come first
        self.monitored: dict[str, float] = {}  # what schedulers saw before the checkpoint
        self._keeps_counters = False

    @property
    def done(self) -> bool:
        """Whether the epoch is over."""
        return not self.is_unsettled and super().done

    @property
    def is_epoch_over(self) -> bool:
        """Whether the newest batch was the epoch's last."""
        return self._num_ready_batches_reached()

    @property
    def is_between_steps(self) -> bool:
        """Whether the newest batch completed an optimiser step."""
        return not self._should_accumulate()

    def restore_steps(self, steps: int) -> None:
        """Set the counters of optimiser steps."""
        progress = self.automatic_optimization.optim_progress.optimizer
        for tracker in (progress.step.total, progress.zero_grad.total):
            tracker.ready = tracker.completed = steps
        self._batches_that_stepped = steps

    def restore_batches(self, batches: int, total: int, batches_per_epoch: int) -> None:
        """Set the counters of batches of this epoch and of all."""
        for tracker, count in ((self.batch_progress.current, batches), (self.batch_progress.total, total)):
            tracker.ready = tracker.completed = count
            tracker.started = tracker.processed = count  # type: ignore[attr-defined]
        self.batch_progress.is_last_batch = batches == batches_per_epoch
        self._keeps_counters = True

    def reset(self) -> None:
        """Start an epoch at its first batch, or where a restored position stands in it."""
        if not self._keeps_counters:
            super().reset()
        self._keeps_counters = False

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train one batch, or none where a restored step is to be settled first."""
        if self.is_unsettled:
            return
        super().advance(data_fetcher)
        if self.is_between_steps:
            self._above.note_step()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate and step schedulers where due."""
        super().on_advance_end(data_fetcher)
        self.is_unsettled = False
        if self.is_between_steps and not self.is_epoch_over:
            self._above.settle_step()

    @property
    def _above(self) -> ExactFitLoop:
        loop = self.trainer.fit_loop
        assert isinstance(loop, ExactFitLoop)
        return loop

    def _get_monitor_value(self, key: str) -> Any | None:
        value = super()._get_monitor_value(key)
        return value if value is not None else self.monitored.get(key)

    def _broadcast_sigterm_tensor(self) -> None:
        """Do nothing: `RankAgreement` tells all ranks of a signal without stopping the GPU at every batch."""


class _NoSignals(_SignalConnector):
    """Leaves signals to the program; Lightning would requeue SLURM jobs itself and broadcast inside a handler."""

    def register_signal_handlers(self) -> None:
        """Register none."""
        self.received_sigterm = False

    def teardown(self) -> None:
        """Restore nothing."""


def make_exact(trainer: pl.Trainer, effective_batch: int, on_settled: Callable[[], None]) -> None:
    """Give a Trainer the loops of this module, and leave signals to the program."""
    trainer.fit_loop = ExactFitLoop(trainer, effective_batch, on_settled)
    trainer._signal_connector = _NoSignals(trainer)

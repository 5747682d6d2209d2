"""One rank of `benchmarks/scaling.py`: trains on a batch that lies on the device, window by window.

The windows come as lines `SETTLE COUNTED` (steps) on standard input, the times go as lines `window SECONDS` to standard
output; the end of the input ends training. Between two windows the rank blocks and computes nothing.
"""

import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.recipe import QUIET, assemble, checked_config
from pipeline.data.datamodule import AudioDataModule
from pipeline.data.dataset import Batch
from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader, SampleKey
from pipeline.launch.preflight import Preflight
from pipeline.training.ranks.agreement import StopRequested

WINDOW = "window"
STEPS_PER_EPOCH = 4096  # more than are ever measured: an epoch's end costs something, too


class ResidentBatch(AudioDataModule):
    """Gives one random batch, which lies on the training device, again and again, under the real positions."""

    def __init__(self, checked: Preflight) -> None:
        config, self._batch_size = checked.config, checked.resources.batch_size
        super().__init__(config.data, seed=config.trainer.seed, cache_dir=Path(), report=sys.stderr.write)
        self._shape = (self._batch_size, config.data.channels, config.data.segment_samples)

    def prepare_data(self) -> None:
        """Nothing is read."""

    def setup(self, stage: str | None = None) -> None:
        """Nothing is read."""

    def train_dataloader(self) -> ResumableLoader:
        """The loader of a run, but for what it loads."""
        assert self.trainer is not None
        world_size = self.trainer.world_size
        sampler = GlobalBatchSampler(
            STEPS_PER_EPOCH * self._batch_size * world_size,
            self._batch_size,
            seed=self._seed,
            rank=self.trainer.global_rank,
            world_size=world_size,
        )
        noise = torch.randn(self._shape, generator=torch.Generator().manual_seed(self.trainer.global_rank))
        waveform = (0.1 * noise).to(self.trainer.strategy.root_device)

        def collate(keys: list[SampleKey]) -> Batch:
            position = torch.tensor([key.position for key in keys], dtype=torch.int64)
            names = tuple(str(key.item) for key in keys)
            return Batch(waveform, position, names, names, ())

        return ResumableLoader(_Keys(), sampler, num_workers=0, collate_fn=collate)


class _Keys(torch.utils.data.Dataset[SampleKey]):
    def __getitem__(self, key: SampleKey) -> SampleKey:
        return key


class Gate(pl.Callback):
    """Measures the windows that it is told to, and ends training when it is told no more."""

    def __init__(self, warm_up_steps: int) -> None:
        self._settle, self._counted = warm_up_steps, 0
        self._steps, self._began = 0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Close a window whose steps are done."""
        self._steps += 1
        if self._steps == self._settle:
            _synchronize()
            self._began = time.perf_counter()
        if self._steps == self._settle + self._counted:
            _synchronize()
            print(WINDOW, time.perf_counter() - self._began, flush=True)
            self._await_order()

    def _await_order(self) -> None:
        order = sys.stdin.readline().split()
        if not order:
            raise StopRequested("measured")
        self._settle, self._counted = int(order[0]), int(order[1])
        self._steps = 0


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_rank(run_dir: Path, warm_up_steps: int, overrides: list[str], experiment: str) -> None:
    """Train as a run does, by the project's own assembly, until the input ends.

    Args:
        run_dir: directory of this rank alone; it is made.
        warm_up_steps: steps before the first window.
        overrides: of the recipe.
        experiment: the recipe.
    """
    checked = checked_config(
        run_dir,
        "trainer.logger=none",
        "trainer.trainer.max_epochs=1",
        *QUIET,
        *overrides,
        experiment=experiment,
    )
    run = assemble(checked, lambda checkpoints: Gate(warm_up_steps))
    try:
        run.trainer.fit(run.module, datamodule=ResidentBatch(checked))
    except StopRequested:
        return
    raise SystemExit(f"the epoch of {STEPS_PER_EPOCH} steps is over; measure fewer or shorter windows")

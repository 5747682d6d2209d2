"""What saving costs: how long a checkpoint of the full-size model holds training up.

    python benchmarks/checkpoint_stall.py                 # one GPU if there is one, else the CPU
    python benchmarks/checkpoint_stall.py --seconds 60 --pairs 2 --json stall.json

One training run alternates windows without checkpoints and windows with one each, in the order off, on, on, off, so
that both see the same machine and a drift of its speed cancels.
On a GPU the claim is a loss of at most 1 % of wall time with a checkpoint a minute; on a CPU, where training itself
takes the cores that the writing thread needs, that the training thread is held up for at most 0.15 s a checkpoint.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.recipe import QUIET, assemble, checked_config
from pipeline.training import assembly
from pipeline.training.callbacks.checkpointing import RunCheckpoints


@dataclass(frozen=True)
class Window:
    """Some seconds of training.

    Attributes:
        saving: with one checkpoint, or without.
        seconds: wall time.
        steps: optimiser steps in it.
        blocked_s: time that each save held the training thread up.
    """

    saving: bool
    seconds: float
    steps: int
    blocked_s: tuple[float, ...]


class Windows(pl.Callback):
    """Switches saving on and off every so many seconds, and measures the steps between."""

    def __init__(self, checkpoints: RunCheckpoints, seconds: float, pairs: int, warm_up_steps: int) -> None:
        self.measured: list[Window] = []
        self._checkpoints = checkpoints
        self._seconds = seconds
        self._count = 2 * pairs
        self._warm_up_steps = warm_up_steps
        self._began: tuple[float, int, int] | None = None  # time, step, saves

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Close a window that has lasted long enough."""
        blocked_s, step = self._checkpoints.blocked_s, trainer.global_step
        if step < self._warm_up_steps:
            return
        if self._began is not None and len(blocked_s) > self._began[2]:
            self._checkpoints.every_n_minutes = None  # one checkpoint a window
        if self._began is not None and time.perf_counter() - self._began[0] < self._seconds:
            return
        self._checkpoints.writer.wait()  # a write belongs to the window that asked for it
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._began is not None:
            began, first, saves = self._began
            blocked = tuple(blocked_s[saves:])
            self.measured.append(Window(self._is_saving(), now - began, step - first, blocked))
        if len(self.measured) == self._count:
            trainer.fit_loop.epoch_loop.max_steps = step
        self._checkpoints.every_n_minutes = 0.0 if self._is_saving() else None  # at once
        self._began = (time.perf_counter(), step, len(blocked_s))

    def _is_saving(self) -> bool:
        return len(self.measured) % 4 in (1, 2)


def measure(run_dir: Path, batch_size: int, seconds: float, pairs: int) -> tuple[list[Window], float]:
    """Train the full-size complex model; returns the windows and the size of a checkpoint in MB."""
    checked = checked_config(
        run_dir,
        f"data.train_dataloader.batch_size={batch_size}",
        f"data.train_dataloader.num_workers={max(1, len(os.sched_getaffinity(0)) - 2)}",
        "data.train_dataloader.persistent_workers=true",
        "data.train_dataset.segments_per_epoch=64000",  # one long epoch: its ends cost something, too
        f"trainer.precision={'bf16-mixed' if torch.cuda.is_available() else '32-true'}",
        "trainer.trainer.max_epochs=100000",
        *QUIET,
    )
    data = assembly.build_data(checked.config, checked.resources.batch_size, checked.resources.accumulate)
    warm_up_steps = 300 if checked.resources.use_gpu else 2
    windows: list[Windows] = []

    def observe(checkpoints: RunCheckpoints) -> Windows:
        windows.append(Windows(checkpoints, seconds, pairs, warm_up_steps))
        return windows[0]

    run = assemble(checked, observe)
    run.trainer.fit(run.module, datamodule=data)
    return windows[0].measured, run.store.last.stat().st_size / 1e6


def main() -> int:
    """Measure, print a table, and return 0 if the claim holds."""
    is_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a window")
    parser.add_argument("--pairs", type=int, default=2, help="windows of each kind")
    parser.add_argument("--batch-size", type=int, default=32 if is_gpu else 1)
    parser.add_argument("--json", type=Path, default=Path("checkpoint_stall.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        windows, size_mb = measure(
            Path(folder) / "run", arguments.batch_size, arguments.seconds, arguments.pairs
        )
    rate = {
        saving: sum(w.steps for w in windows if w.saving == saving)
        / sum(w.seconds for w in windows if w.saving == saving)
        for saving in (False, True)
    }
    if any(len(window.blocked_s) != window.saving for window in windows):
        raise SystemExit(
            "a window has another number of checkpoints than it was to have; take longer windows"
        )
    blocked = [sum(window.blocked_s) for window in windows if window.saving]
    loss, worst = 1 - rate[True] / rate[False], max(blocked)
    holds = loss <= 0.01 if is_gpu else worst <= 0.15
    table = Table(title=f"one checkpoint of {size_mb:.0f} MB in {arguments.seconds:g} s")
    for heading in ("window", "steps", "seconds", "steps/s", "blocked s"):
        table.add_column(heading, justify="right")
    for w in windows:
        name = "saving" if w.saving else "not saving"
        table.add_row(
            name, str(w.steps), f"{w.seconds:.1f}", f"{w.steps / w.seconds:.3f}", f"{sum(w.blocked_s):.3f}"
        )
    console = Console()
    console.print(table)
    device = torch.cuda.get_device_name() if is_gpu else "CPU"
    console.print(
        f"{device}: loss of throughput {100 * loss:.2f} %, training thread held up {worst:.3f} s a checkpoint at most; "
        f"claim ({'at most 1 % on a GPU' if is_gpu else 'at most 0.15 s on a CPU'}): {'holds' if holds else 'FAILS'}"
    )
    result = {
        "device": device,
        "checkpoint_mb": size_mb,
        "loss": loss,
        "blocked_s": blocked,
        "holds": holds,
        "windows": [asdict(window) for window in windows],
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""From files on disk to optimiser steps: how much of a step the GPU waits, and for what.

    python benchmarks/end_to_end.py                        # one GPU, full-size complex recipe, batch 32, 16 workers
    python benchmarks/end_to_end.py --cpu                  # the small default model: to try it, no claim

Generated music, once as FLAC files and once packed, goes through the loader of a run into a run of the project's own
Trainer. Windows of training from the loader alternate with windows on a batch that lies on the GPU already, in the
order on, off, off, on, so that a drift of the machine's speed hits both. Between the two the loader runs alone, until
the queue that it filled meanwhile is used up. From the medians follow

    idle share = 1 - (steps/s from files) / (steps/s on the resident batch)

and the stage that limits: the slowest of loader (decoding and handing over), transfer to the GPU, and training step,
each alone. The claim is that from packed files the GPU idles at most 10 % of the time, with batch 32 and 16 workers.
"""

import argparse
import gc
import json
import shlex
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.end_to_end_data import AlternatingData, write_music
from benchmarks.recipe import QUIET, assemble, checked_config
from pipeline.training.ranks.agreement import StopRequested

MOST_IDLE = 0.10
KINDS = ("packed", "flac")


@dataclass(frozen=True)
class Speeds:
    """How fast training from one kind of files is; all but the last two in batches, that is steps, per second.

    Attributes:
        kind: of files.
        from_files: training from the loader.
        resident: training on a batch that lies on the device.
        loader: the loader alone, while nothing trains.
        transfer: copies of a batch from pinned memory to the GPU; None on a CPU.
        waited_ms: how long the training thread waits for the loader in each step.
        windows: rates of the single windows, by what they measure.
    """

    kind: str
    from_files: float
    resident: float
    loader: float
    transfer: float | None
    waited_ms: float
    windows: dict[str, list[float]]

    @property
    def idle_share(self) -> float:
        """Share of the time in which the GPU does nothing that it would do with the data at hand."""
        return max(0.0, 1 - self.from_files / self.resident)

    @property
    def limit(self) -> str:
        """The stage that is slowest alone."""
        stages = {"loader": self.loader, "training step": self.resident}
        stages |= {} if self.transfer is None else {"transfer": self.transfer}
        return min(stages, key=lambda name: stages[name])


class Windows(pl.Callback):
    """Measures windows from the loader and on the resident batch in turn, then ends training.

    Args:
        data: whose loader is told what to give.
        warm_up: steps before the first window.
        settle: steps at the beginning of a window that do not count.
        counted: steps that do.
        pairs: windows of each kind.
    """

    def __init__(self, data: AlternatingData, warm_up: int, settle: int, counted: int, pairs: int) -> None:
        self.rates: dict[str, list[float]] = {"loader": [], "resident": []}
        self.waited_ms: list[float] = []
        self._data = data
        order = [("loader", "resident"), ("resident", "loader")]
        self._plan = [name for number in range(pairs) for name in order[number % 2]]
        self._settle, self._counted = settle, counted
        self._steps = -warm_up
        self._began_s = self._waited_s = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the first batch."""
        if self._data.loader.resident is None:
            self._data.loader.resident = batch

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Open and close windows."""
        self._steps += 1
        if self._steps == 0:
            self._begin()
        elif self._steps == self._settle:
            _synchronize()
            self._began_s, self._waited_s = time.perf_counter(), self._data.loader.waited_s
        elif self._steps == self._settle + self._counted:
            _synchronize()
            name = self._plan.pop(0)
            self.rates[name].append(self._counted / (time.perf_counter() - self._began_s))
            if name == "loader":
                waited_s = self._data.loader.waited_s - self._waited_s
                self.waited_ms.append(1000 * waited_s / self._counted)
            if not self._plan:
                raise StopRequested("measured")
            self._begin()

    def _begin(self) -> None:
        self._steps = 0
        if self._plan[0] == "loader":
            self._data.loader.begin_loading()
        else:
            self._data.loader.begin_resident()


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(kind: str, folder: Path, arguments: argparse.Namespace) -> Speeds:
    """Train from one kind of files as a run does, by the project's own assembly."""
    checked = checked_config(
        folder / f"run-{kind}", *overrides(kind, folder, arguments), experiment=arguments.experiment
    )
    config = checked.config
    data = AlternatingData(
        config.data, config.trainer.seed, Path(config.data.cache_dir), report=lambda line: None
    )
    windows = Windows(data, arguments.warm_up, arguments.settle, arguments.steps, arguments.pairs)
    run = assemble(checked, lambda checkpoints: windows)
    try:
        run.trainer.fit(run.module, datamodule=data)
    except StopRequested:
        pass
    else:
        raise SystemExit("the epoch is over; measure fewer or shorter windows")
    resident = data.loader.resident
    assert resident is not None
    return Speeds(
        kind,
        median(windows.rates["loader"]),
        median(windows.rates["resident"]),
        median(data.loader.rates),
        None if arguments.cpu else time_transfer(resident.waveform),
        median(windows.waited_ms),
        {**windows.rates, "loader alone": data.loader.rates},
    )


def overrides(kind: str, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Return what makes the recipe one that trains on these files and does nothing else."""
    chosen = [
        f"data.source={'packed' if kind == 'packed' else 'folder'}",
        f"data.root={folder / kind}",
        f"data.cache_dir={folder / 'cache'}",
        "data.train_dataset.segments_per_epoch=1000000",  # more than are measured: an epoch's end costs something
        f"data.train_dataloader.batch_size={arguments.batch_size}",
        f"data.train_dataloader.num_workers={arguments.workers}",
        "data.train_dataloader.prefetch_factor=4",
        "trainer.trainer.max_epochs=1",
        "trainer.trainer.num_sanity_val_steps=0",
        f"trainer.num_gpus={0 if arguments.cpu else 1}",
    ]
    return [*QUIET, *chosen, *arguments.overrides]


def time_transfer(waveform: torch.Tensor, repeats: int = 20) -> float:
    """Return how many such batches a second can be copied from pinned memory to the GPU."""
    pinned = torch.empty(waveform.shape, pin_memory=True)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    waveform.copy_(pinned, non_blocking=True)
    began.record()
    for _ in range(repeats):
        waveform.copy_(pinned, non_blocking=True)
    ended.record()
    ended.synchronize()
    return 1000 * repeats / began.elapsed_time(ended)


def draw(speeds: list[Speeds], arguments: argparse.Namespace) -> Table:
    """Return the table of results."""
    device = "CPU" if arguments.cpu else torch.cuda.get_device_name()
    table = Table(title=f"{device}, batches of {arguments.batch_size}, {arguments.workers} workers, steps/s")
    for heading in (
        "files",
        "from files",
        "resident",
        "loader alone",
        "transfer",
        "waits ms",
        "idle",
        "limit",
    ):
        table.add_column(heading, justify="left" if heading in ("files", "limit") else "right")
    for each in speeds:
        rates = (each.from_files, each.resident, each.loader, each.transfer)
        shown = ["-" if rate is None else f"{rate:.1f}" for rate in rates]
        table.add_row(each.kind, *shown, f"{each.waited_ms:.2f}", f"{each.idle_share:.1%}", each.limit)
    return table


def parse() -> argparse.Namespace:
    """Return the command line, settled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="the small default model on the CPU; no claim")
    parser.add_argument(
        "--experiment", help="recipe of conf/experiment (full_size_complex; on the CPU default)"
    )
    parser.add_argument("--workers", type=int, help="of the loader (16; on the CPU 2)")
    parser.add_argument("--batch-size", type=int, help="segments of a batch (32; on the CPU 4)")
    parser.add_argument("--steps", type=int, help="counted steps of a window (150; on the CPU 4)")
    parser.add_argument("--pairs", type=int, default=4, help="windows of each kind (default: %(default)s)")
    parser.add_argument("--files", type=int, help="generated files (64; on the CPU 8)")
    parser.add_argument("--seconds", type=int, help="length of each (20; on the CPU 4)")
    parser.add_argument("--json", type=Path, default=Path("end_to_end.json"))
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for train.py")
    arguments = parser.parse_args()
    arguments.experiment = arguments.experiment or ("default" if arguments.cpu else "full_size_complex")
    usual = {
        "workers": (16, 2),
        "batch_size": (32, 4),
        "steps": (150, 4),
        "files": (64, 8),
        "seconds": (20, 4),
    }
    for name, values in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, values[arguments.cpu])
    arguments.warm_up, arguments.settle = (2, 1) if arguments.cpu else (30, 10)
    if not arguments.cpu and not torch.cuda.is_available():
        parser.error("no GPU here; --cpu tries it without")
    return arguments


def main() -> int:
    """Measure, print a table, and return 0 if the claim holds."""
    arguments, console, speeds = parse(), Console(width=110), []
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        write_music(Path(name), arguments.files, arguments.seconds)
        console.print(
            f"{arguments.files} files of {arguments.seconds} s: {time.perf_counter() - began:.0f} s"
        )
        for kind in KINDS:
            speeds.append(measure(kind, Path(name), arguments))
            gc.collect()  # ends the workers of this kind before those of the next one begin
    console.print(draw(speeds, arguments))
    for each in speeds:
        console.print(f"{each.kind}: {each.limit} limits")
    packed = speeds[0].idle_share
    holds = None if arguments.cpu else packed <= MOST_IDLE
    if holds is not None:
        console.print(
            f"from packed files the GPU idles {packed:.1%} of the time, at most {MOST_IDLE:.0%}: "
            f"{'holds' if holds else 'FAILS'}"
        )
    result = {
        "device": "CPU" if arguments.cpu else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "command": shlex.join(sys.argv),
        "batch_size": arguments.batch_size,
        "workers": arguments.workers,
        "steps_per_window": arguments.steps,
        "rows": [{**asdict(each), "idle_share": each.idle_share, "limit": each.limit} for each in speeds],
        "holds": holds,
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if holds is False else 0


if __name__ == "__main__":
    sys.exit(main())

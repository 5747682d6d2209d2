"""What `benchmarks/end_to_end.py` trains on: generated music as FLAC and packed, and a loader that can stand aside."""

import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.data.datamodule import AudioDataModule
from pipeline.data.dataset import Batch
from pipeline.data.pack.__main__ import main as pack
from pipeline.data.sampler import ResumableLoader
from pipeline.data.seeds import derive_seed
from pipeline.data.synthetic_music import music

RATE_HZ = 44100
DISCARDED_QUEUES = 3  # batches taken from the loader alone before a window, in lengths of its queue


def write_music(folder: Path, num_files: int, seconds: int) -> None:
    """Write stereo music as 16-bit FLAC files into `folder/flac`, and packed into `folder/packed`."""
    (folder / "flac").mkdir()
    jobs = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        list(pool.map(partial(_write_file, folder / "flac", seconds), range(num_files)))
    arguments = [str(folder / "flac"), str(folder / "packed"), "--jobs", str(jobs), "--shard-mib", "32"]
    if pack([*arguments, "--cache-dir", str(folder / "cache")]):
        raise SystemExit("packing failed")


def _write_file(folder: Path, seconds: int, number: int) -> None:
    rng = np.random.default_rng(derive_seed("end to end", number))
    mid, side = (music(rng, seconds * RATE_HZ, RATE_HZ) for _ in range(2))
    stereo = np.stack([mid + 0.3 * side, mid - 0.3 * side], axis=1)
    stereo *= 0.7 / np.abs(stereo).max()
    stereo += 1e-3 * rng.standard_normal(stereo.shape)
    soundfile.write(folder / f"{number:03d}.flac", stereo, RATE_HZ, subtype="PCM_16")


class AlternatingLoader(ResumableLoader):
    """The loader of a run, which on demand gives one batch that lies on the device again and again, at no cost.

    Attributes:
        resident: this batch, once there is one.
        rates: batches per second of the loader alone, while nothing trained, one for each `begin_loading`.
        waited_s: how long batches of the loader were waited for, in all.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what DataLoader takes."""
        super().__init__(*arguments, **options)
        self.resident: Batch | None = None
        self.rates: list[float] = []
        self.waited_s = 0.0
        self._gives_resident = self._is_to_discard = False

    def begin_resident(self) -> None:
        """Give the resident batch from now on; the workers fill their queue and rest."""
        self._gives_resident = True

    def begin_loading(self) -> None:
        """Give what the workers load from now on, when the queue that they have filled meanwhile is used up."""
        self._gives_resident, self._is_to_discard = False, True

    def _count(self, batches: Iterator[Any]) -> Generator[Any]:
        while self._done < len(self):
            if self._gives_resident and self.resident is not None:
                batch = self.resident
            else:
                if self._is_to_discard:
                    self._discard(batches)
                began = time.perf_counter()
                batch = next(batches)
                self.waited_s += time.perf_counter() - began
            self._done += 1
            yield batch

    def _discard(self, batches: Iterator[Any]) -> None:
        """Take batches for nothing, measuring the rate once the queue is used up."""
        self._is_to_discard = False
        queue = max(1, self.num_workers * (self.prefetch_factor or 1))
        for _ in range(queue):
            next(batches)
        began = time.perf_counter()
        for _ in range((DISCARDED_QUEUES - 1) * queue):
            next(batches)
        self.rates.append((DISCARDED_QUEUES - 1) * queue / (time.perf_counter() - began))


class AlternatingData(AudioDataModule):
    """The data of a run with an `AlternatingLoader`."""

    loader: AlternatingLoader

    def train_dataloader(self) -> AlternatingLoader:
        """Loader of a run, but for what it can do besides."""
        plain = super().train_dataloader()
        options = self._loader_options(self._data.train_dataloader) | {"collate_fn": plain.collate_fn}
        self.loader = AlternatingLoader(plain.dataset, plain.batch_sampler, **options)
        return self.loader

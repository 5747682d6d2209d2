"""Times of training steps, in rounds that alternate, and what the device could do at best."""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.trainees import Recipe, Setting, Trainee, Variant
from pipeline.training.reproducibility import prepare_determinism

GIB = 2**30


@dataclass(frozen=True)
class StepTime:
    """How fast a variant trains.

    Attributes:
        name: of the variant.
        median_ms: of all measured steps.
        lowest_ms: of the rounds' medians.
        highest_ms: of the rounds' medians.
        segments_per_s: at the median.
        peak_gib: most memory that weights, optimiser and one step take of a GPU; None on the CPU.
    """

    name: str
    median_ms: float
    lowest_ms: float
    highest_ms: float
    segments_per_s: float
    peak_gib: float | None

    @classmethod
    def of(cls, name: str, rounds: list[list[float]], batch_size: int, peak_gib: float | None) -> "StepTime":
        """Sum up the steps of all rounds, in ms."""
        median = statistics.median(step for steps in rounds for step in steps)
        medians = [statistics.median(steps) for steps in rounds]
        return cls(name, median, min(medians), max(medians), 1000 * batch_size / median, peak_gib)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def synchronize(device: torch.device) -> None:
    """Wait for what runs on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def prepare(make: Callable[[], Trainee], warm_up: int) -> tuple[Trainee, float | None]:
    """Build a trainee and let it train; return it with the memory in GiB that it takes at most, None on the CPU.

    CUDA graphs of all trainees of a process share their memory: `peaks_apart` tells theirs.
    """
    gc.collect()
    use_gpu = torch.cuda.is_available()
    if use_gpu:
        torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved() if use_gpu else 0
    trainee = make()
    if trainee.recipe.device.type != "cuda":
        with trainee.setting.active():
            for _ in range(warm_up):
                trainee.step()
        return trainee, None
    with trainee.setting.active():
        for _ in range(warm_up):
            trainee.step()
        torch.cuda.synchronize()
        # What is reserved counts: CUDA graphs keep their memory, and nothing is allocated in it when they run.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainee.step()
        torch.cuda.synchronize()
    return trainee, (torch.cuda.max_memory_reserved() - before) / GIB


def peaks_apart(tasks: list[tuple[Callable[[], Recipe], Variant]], warm_up: int = 4) -> list[float | None]:
    """Return the memory of `prepare`, measured in processes of their own, several at a time.

    What they compile is in the cache for this process, too.
    """
    num_cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")
    with ProcessPoolExecutor(max(1, num_cores // 2), get_context("spawn"), max_tasks_per_child=1) as pool:
        return [task.result() for task in [pool.submit(_peak, *task, warm_up) for task in tasks]]


def _peak(make_recipe: Callable[[], Recipe], variant: Variant, warm_up: int) -> float | None:
    # Keys of compiled code name the first module that has torch (pickle asks for it): not one that only spawn knows.
    sys.modules.pop("__mp_main__", None)
    prepare_determinism(deterministic=True, strict=True)
    return prepare(partial(Trainee, make_recipe(), variant), warm_up)[1]


def time_steps(trainee: Trainee, steps: int, settle: int) -> list[float]:
    """Return the ms of each of so many steps, after some that only bring the device back to this work."""
    device = trainee.recipe.device
    with trainee.setting.active():
        for _ in range(settle):
            trainee.step()
        if device.type != "cuda":
            return [_time_on_host(trainee) for _ in range(steps)]
        torch.cuda.synchronize(device)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        marks[0].record()
        for mark in marks[1:]:
            trainee.step()
            mark.record()
        torch.cuda.synchronize(device)
    return [one.elapsed_time(next_one) for one, next_one in zip(marks[:-1], marks[1:], strict=True)]


def _time_on_host(trainee: Trainee) -> float:
    began = time.perf_counter()
    trainee.step()
    return 1000 * (time.perf_counter() - began)


def alternate(measured: Mapping[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[list[float]]]:
    """Return the times of each, by round; every other round goes backwards, so that a drift cancels."""
    found: dict[str, list[list[float]]] = {name: [] for name in measured}
    for number in range(rounds):
        order = list(measured.items())
        for name, measure in order if number % 2 == 0 else reversed(order):
            found[name].append(measure())
    return found


@dataclass(frozen=True)
class Ceilings:
    """What the device does at best.

    Attributes:
        bytes_per_s: read and written by a copy of much memory.
        flop_per_s: of a large matrix product, by name of the arithmetic.
    """

    bytes_per_s: float
    flop_per_s: dict[str, float]

    def limit_ms(self, num_bytes: float, flop: float, arithmetic: str) -> tuple[float, float]:
        """Return the least ms that moving so many bytes takes, and that so many operations take."""
        return 1000 * num_bytes / self.bytes_per_s, 1000 * flop / self.flop_per_s[arithmetic]


ARITHMETIC = {"float32": Setting(), "tf32": Setting(tf32=True), "bf16": Setting(bf16=True)}


def measure_ceilings(device: torch.device) -> Ceilings:
    """Measure a copy and matrix products."""
    use_gpu = device.type == "cuda"
    source = torch.ones(2**28 if use_gpu else 2**24, device=device)  # GiB on a GPU, else 64 MiB
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    bandwidth = copied / _best_seconds(lambda: target.copy_(source), device)
    size, flop = (8192 if use_gpu else 1024), {}
    for name, setting in ARITHMETIC.items():
        if not use_gpu and name != "float32":
            continue
        factor = torch.ones(
            size, size, device=device, dtype=torch.bfloat16 if setting.bf16 else torch.float32
        )
        with setting.active():
            flop[name] = 2 * size**3 / _best_seconds(lambda factor=factor: factor @ factor, device)
    return Ceilings(bandwidth, flop)


def _best_seconds(work: Callable[[], Any], device: torch.device, repeats: int = 10) -> float:
    """Return the least seconds of some repeats."""
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)

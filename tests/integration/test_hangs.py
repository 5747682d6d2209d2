"""Runs that hang: the rank at fault is named, the job is over within the configured time, and it goes on later."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.training.checkpoint import peek_step
from tests.integration.background import environment
from tests.integration.processes import living_members
from tests.integration.runs import ROOT, TINY
from tests.integration.test_processes import _ranks_of

pytestmark = pytest.mark.long

TIMEOUT_S = 20
TRAINING = (
    *TINY,
    "trainer.num_gpus=0",
    "trainer.trainer.num_demos=0",
    "trainer.trainer.max_steps=100000",
    f"trainer.watchdog_timeout_s={TIMEOUT_S}",
)
TWO_RANKS = (*TRAINING, "trainer.num_processes=2")
ONE_WORKER = "data.train_dataloader.num_workers=1"


class Run:
    """A run in the midst of its training."""

    def __init__(self, folder: Path, cache: Path, *arguments: str, rows: int = 3) -> None:
        self.folder, self._cache = folder, cache
        self._output = folder / "output"
        self.process = self._start(*arguments)
        deadline = time.monotonic() + 180
        while not any(len(path.read_text().splitlines()) > rows for path in folder.rglob("metrics.csv")):
            assert time.monotonic() < deadline and self.process.poll() is None, self.output
            time.sleep(0.1)

    def _start(self, *arguments: str) -> subprocess.Popen:
        with self._output.open("w") as stream:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments],
                env=environment(self.folder, self._cache),
                stdout=stream,
                stderr=stream,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def directory(self) -> Path:
        return next(self.folder.rglob("provenance.json")).parent

    @property
    def ranks(self) -> dict[int, int]:
        return _ranks_of(self.process.pid)

    def ends_resumable(self) -> None:
        began = time.monotonic()
        assert self.process.wait(timeout=2 * TIMEOUT_S) == 75, self.output
        assert time.monotonic() - began < TIMEOUT_S
        assert not living_members(self.folder, self.process.pid)
        assert f"run.resume={self.directory}" in self.output, self.output

    def goes_on(self, steps: int) -> bool:
        """Resume it up to a step; returns whether it ended there."""
        resumed = self._start(f"run.resume={self.directory}", f"trainer.trainer.max_steps={steps}")
        assert resumed.wait(timeout=180) == 0, self.output
        return peek_step(self.directory / "checkpoints" / "last.ckpt") == steps


@pytest.fixture
def start(tmp_path, cache_dir):
    """Start a run and wait until it trains; it does not outlive the test."""
    runs = []

    def begin(*arguments, rows=3):
        runs.append(Run(tmp_path / str(len(runs)), cache_dir, *arguments, rows=rows))
        return runs[-1]

    for number in range(3):
        (tmp_path / str(number)).mkdir()
    yield begin
    for run in runs:
        run.process.kill()


def workers_of(pid):
    """Process ids of the data workers of a rank."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_is_named_and_the_run_goes_on_later(stopped, start):
    run = start(*TWO_RANKS)
    os.kill(run.ranks[stopped], signal.SIGSTOP)
    run.ends_resumable()
    assert f"watchdog: rank {stopped} (" in run.output and "has not answered for" in run.output, run.output
    assert f"rank {stopped} (process " in run.output and "was stopped by a signal: killed" in run.output
    stacks = (run.directory / "logs" / f"rank-{1 - stopped}-stacks.txt").read_text()
    assert "training_epoch_loop" in stacks, stacks
    assert run.goes_on(12)


def test_a_rank_whose_data_never_come_is_named_and_tells_what_it_was_doing(start):
    run = start(*TWO_RANKS, ONE_WORKER)
    (worker,) = workers_of(run.ranks[1])
    os.kill(worker, signal.SIGSTOP)
    run.ends_resumable()
    assert "watchdog: rank 1 (" in run.output and "has made no progress for" in run.output, run.output
    assert "waiting for data" in run.output
    stacks = (run.directory / "logs" / "rank-1-stacks.txt").read_text()
    assert "dataloader.py" in stacks, stacks


def test_one_process_that_hangs_is_ended_too(start):
    run = start(*TRAINING, ONE_WORKER)
    (worker,) = workers_of(run.process.pid)
    os.kill(worker, signal.SIGSTOP)
    run.ends_resumable()
    assert "watchdog: rank 0 (" in run.output and "waiting for data" in run.output, run.output


def test_a_straggler_is_reported_with_its_host(start):
    run = start(*TWO_RANKS, ONE_WORKER)
    (worker,) = workers_of(run.ranks[1])
    is_over = threading.Event()

    def slow_down():
        while not is_over.is_set():
            os.kill(worker, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(worker, signal.SIGCONT)
            time.sleep(0.02)

    slowing = threading.Thread(target=slow_down)
    slowing.start()
    try:
        deadline = time.monotonic() + 120
        while "is slow and makes the others wait" not in run.output:
            assert time.monotonic() < deadline and run.process.poll() is None, run.output
            time.sleep(0.2)
    finally:
        is_over.set()
        slowing.join()
    (line,) = [line for line in run.output.splitlines() if "is slow and makes" in line]
    assert line.startswith(f"rank 1 ({os.uname().nodename})") and "of it waiting for data" in line
    run.process.terminate()
    assert run.process.wait(timeout=60) == 75, run.output

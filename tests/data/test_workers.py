import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.data.workers import WorkerLoader, stacks_of_workers, start_worker

PROGRAM = """
from functools import partial
from pipeline.data.workers import WorkerLoader, start_worker
loader = WorkerLoader(range(8), num_workers=2, persistent_workers=True, worker_init_fn=partial(start_worker, seed=0))
batches = iter(loader)
next(batches)
"""


@pytest.fixture
def loader():
    return WorkerLoader(range(400), num_workers=1, worker_init_fn=partial(start_worker, seed=0))


class NeverComes:
    """Data on a disk that does not answer."""

    def __len__(self):
        return 2

    def __getitem__(self, item):
        time.sleep(600)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs memfd_create")
def test_workers_that_hang_tell_what_they_were_doing_and_other_processes_live_on():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    other.start()
    loader = WorkerLoader(NeverComes(), num_workers=2, worker_init_fn=partial(start_worker, seed=0))
    batches = iter(loader)
    end_s = time.monotonic() + 30
    while (told := stacks_of_workers()).count(b"in __getitem__") < 2 and time.monotonic() < end_s:
        pass
    assert told.count(b"in __getitem__") >= 2, told.decode()
    assert all(process.is_alive() for process in (*batches._workers, other))
    other.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sigwaitinfo")
@pytest.mark.parametrize("name", ["INT", "TERM", "USR1", "USR2"])
def test_a_schedulers_signal_leaves_workers_alive(loader, name):
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    # another process sends it, as a scheduler does; the shell's own kill is on every machine
    subprocess.run(["sh", "-c", f"kill -{name} {worker.pid}"], check=True)
    assert len(list(batches)) == 399


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_schedulers_signal_finds_no_thread_that_it_could_end(loader):
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    blocked = {}
    for status in Path(f"/proc/{worker.pid}/task").glob("*/status"):
        facts = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        blocked[facts["Pid"].strip()] = bool(int(facts["SigBlk"], 16) >> (signal.SIGTERM - 1) & 1)
    assert len(blocked) > 1
    assert sum(not is_blocked for is_blocked in blocked.values()) <= 1, (
        "one thread waits for the parent's word"
    )


def test_the_parent_can_still_end_its_workers(loader):
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    worker.terminate()
    worker.join(timeout=5)
    assert not worker.is_alive()


def test_a_program_ends_with_workers_running():
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, timeout=30, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert time.monotonic() - start < 20


def draw(_):
    return torch.rand(1).item()


def test_workers_draw_the_same_numbers_in_every_run(loader):
    def numbers():
        return list(
            DataLoader([0] * 4, num_workers=2, collate_fn=draw, worker_init_fn=partial(start_worker, seed=7))
        )

    assert numbers() == numbers()


ORPHANS = (
    PROGRAM
    + """
import os, signal
print(*(worker.pid for worker in batches._workers), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
def test_workers_end_with_a_program_that_is_killed():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, text=True, env=environment, timeout=30
    )  # returns when the workers, which have the pipe as well, are gone
    assert program.returncode == -signal.SIGKILL and len(program.stdout.split()) == 2, program.stderr


def parents_death(_):
    signal_number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(signal_number), 0, 0, 0)  # PR_GET_PDEATHSIG
    return signal_number.value


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
def test_the_kernel_ends_workers_and_no_watchdog_is_waited_for():
    told = DataLoader(
        [0], num_workers=1, collate_fn=parents_death, worker_init_fn=partial(start_worker, seed=0)
    )
    assert list(told) == [signal.SIGKILL]

import os
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from pipeline.data.workers import start_worker

PROGRAM = """
from functools import partial
from torch.utils.data import DataLoader
from pipeline.data.workers import start_worker
loader = DataLoader(range(8), num_workers=2, persistent_workers=True, worker_init_fn=partial(start_worker, seed=0))
batches = iter(loader)
next(batches)
"""


@pytest.fixture
def loader():
    return DataLoader(range(400), num_workers=1, worker_init_fn=partial(start_worker, seed=0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sigwaitinfo")
@pytest.mark.parametrize("name", ["INT", "TERM", "USR1", "USR2"])
def test_a_schedulers_signal_leaves_workers_alive(loader, name):
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    assert len(list(batches)) == 399


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

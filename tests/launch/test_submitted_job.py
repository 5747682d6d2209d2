"""A job of a launcher: its process has never run `train.py` itself, and has the launcher's signal handlers."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.background import PATIENCE_S, environment
from tests.integration.runs import ROOT, TINY

LONG = (
    *TINY,
    "trainer.trainer.max_steps=100000",
    "trainer.trainer.max_time=00:00:30:00",
    "trainer.num_gpus=0",
)


def wait_for(find, process):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := find()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.long
def test_it_counts_its_own_time_and_saves_when_it_is_asked_to_stop(tmp_path):
    command = [sys.executable, "train.py", "-m", "hydra/launcher=submitit_local", "trainer.seed=1", *LONG]
    runs = tmp_path / "runs"
    with (tmp_path / "output").open("w") as output:
        sweep = subprocess.Popen(
            command, cwd=ROOT, env=environment(runs, tmp_path / "cache"), stdout=output, stderr=output
        )
    try:
        wait_for(
            lambda: any(len(path.read_text().splitlines()) > 5 for path in runs.rglob("metrics.csv")), sweep
        )
        (lock,) = runs.rglob(".lock")
        os.kill(int(re.findall(r"process (\d+) on", lock.read_text())[0]), signal.SIGTERM)
        sweep.wait(timeout=PATIENCE_S)
    finally:
        sweep.kill()
        sweep.wait()
    said = "".join(path.read_text() for path in runs.rglob("*_log.*"))
    assert (
        "SIGTERM received: saving after this step" in said and "SIGTERM received: saved up to step" in said
    ), said
    assert (lock.parent / "checkpoints" / "last.ckpt").is_file()

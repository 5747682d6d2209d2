"""Several processes: one that dies takes the run down and is named, and none outlives the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.background import environment
from tests.integration.processes import living_members
from tests.integration.runs import ROOT, TINY

COMMAND = [sys.executable, str(ROOT / "train.py"), *TINY, "trainer.num_gpus=0", "trainer.num_processes=2"]


def _ranks_of(parent: int) -> dict[int, int]:
    """Global rank -> process id of the ranks that a process has started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, variables = (folder / "stat").read_text(), (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and b"pipeline.launch.rank" in command:
            rank = next(entry for entry in variables.split(b"\0") if entry.startswith(b"RANK="))
            found[int(rank[5:])] = int(folder.name)
    return found


@pytest.fixture
def training(tmp_path, cache_dir):
    """A run on two ranks with a data worker each, in the midst of its training."""
    run = subprocess.Popen(
        [*COMMAND, "trainer.trainer.max_steps=100000", "data.train_dataloader.num_workers=1"],
        env=environment(tmp_path, cache_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 180
        while not any(path.stat().st_size > 300 for path in tmp_path.rglob("metrics.csv")):
            assert time.monotonic() < deadline and run.poll() is None, run.communicate()
            time.sleep(0.2)
        yield run
    finally:
        run.kill()
        run.communicate()


def test_a_killed_rank_ends_the_run_and_is_named(training, tmp_path):
    ranks = _ranks_of(training.pid)
    assert set(ranks) == {0, 1}
    os.kill(ranks[1], signal.SIGKILL)
    output, _ = training.communicate(timeout=60)
    assert training.returncode == 1
    # the other rank may notice first that its peer is gone; the one that was killed is named all the same
    assert "rank 1 was killed by signal SIGKILL" in output, output
    assert not living_members(tmp_path, training.pid)


@pytest.mark.long
def test_ranks_and_workers_end_with_a_killed_run_which_goes_on_at_once(training, tmp_path, cache_dir):
    assert len(living_members(tmp_path, training.pid)) >= 5, "the run, two ranks, a worker each"
    (run_dir,) = (path.parent for path in tmp_path.rglob("config.yaml") if path.parent.name != ".hydra")
    training.kill()
    training.communicate(
        timeout=60
    )  # its processes have the pipe as well: they are gone, or this does not return
    again = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), f"run.resume={run_dir}", "trainer.trainer.max_steps=1"],
        env=environment(tmp_path, cache_dir),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert not living_members(tmp_path, training.pid)


@pytest.mark.long
def test_an_error_in_every_rank_is_told_and_named(tmp_path, cache_dir):
    """A rank that refuses to go on ends the run with the code of an error, not with that of a stop."""
    begun = subprocess.run(
        COMMAND, env=environment(tmp_path, cache_dir), capture_output=True, text=True, timeout=240
    )
    assert begun.returncode == 0, begun.stdout + begun.stderr
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    wrong = [
        sys.executable,
        str(ROOT / "train.py"),
        f"run.resume={checkpoint}",
        "data.train_dataloader.batch_size=3",
    ]
    refused = subprocess.run(
        [*wrong, "trainer.trainer.max_steps=9"],
        env=environment(tmp_path, cache_dir),
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = refused.stdout + refused.stderr
    assert refused.returncode == 1 and "ended with exit code 1; the others" in said, said
    assert "trainer.global_batch_size=8" in said

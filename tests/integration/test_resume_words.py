"""`run.resume` as a word or a place: the same command again, a run that was killed while it was set up."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.integration.conftest import TIMEOUT_S
from tests.integration.runs import ROOT, TINY, weights_digest


def test_the_same_command_again_goes_on(train):
    auto = (*TINY, "run.resume=auto")
    first = train(*auto)
    assert first.code == 0 and "run.resume=auto: no run in" in first.output, first.output
    longer = train(*auto, "trainer.trainer.max_steps=5")
    assert longer.code == 0 and longer.directory == first.directory, longer.output
    assert f"goes on with the run in {first.directory}" in longer.output
    assert "trainer.trainer.max_steps was 3, now 5" in longer.output and "at step 3" in longer.output
    finished = train(*auto, "trainer.trainer.max_steps=5")
    assert finished.code == 0 and "nothing left to train" in finished.output, finished.output
    other = train(*auto, "trainer.seed=1")
    assert other.code == 0 and len(other.directories) == 2, other.output


@pytest.mark.long
def test_a_chosen_directory_is_begun_and_continued_by_one_command(train, tmp_path):
    command = (*TINY, f"run.dir={tmp_path / 'mine'}", "run.resume=auto")
    begun, continued = train(*command), train(*command)
    assert begun.code == 0 and "no run in" in begun.output, begun.output
    assert continued.code == 0 and "nothing left to train" in continued.output, continued.output
    refused = train(*command, "trainer.seed=1")
    assert refused.code == 1 and "trainer.seed: cannot change" in refused.output


def test_a_run_that_was_killed_while_it_was_set_up_begins(train, tmp_path):
    whole = train(*TINY)
    bare = tmp_path / "bare"
    bare.mkdir()
    for record in ("config.yaml", "provenance.json"):
        shutil.copy(whole.directory / record, bare / record)
    begun = train(f"run.resume={bare}")
    assert begun.code == 0, begun.output
    assert weights_digest(bare / "checkpoints" / "last.ckpt") == whole.weights


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_change_that_the_checkpoint_refuses_is_forgotten(ranks, train):
    processes = ("trainer.num_gpus=0", f"trainer.num_processes={ranks}")
    run = train(*TINY, *processes)
    assert run.code == 0, run.output
    onward = (f"run.resume={run.directory}", "trainer.trainer.max_steps=5")
    refused = train(*onward, "data.train_dataloader.batch_size=3")
    assert refused.code == 1 and "batch" in refused.output, refused.output
    assert "saving after this step" not in refused.output
    resumed = train(*onward)
    assert resumed.code == 0 and "at step 3" in resumed.output, resumed.output


@pytest.mark.long
def test_a_rank_counts_max_time_from_the_start_of_the_command(train):
    run = train(*TINY, "trainer.num_gpus=0", "trainer.trainer.max_time=00:01:00:00")
    (run.directory / "changes.yaml").write_text("trainer.trainer.max_steps: 100000\n")
    began_s = time.monotonic() - 7200
    command = [sys.executable, "-m", "pipeline.launch.rank", run.directory, os.getpid(), began_s]
    rank = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert rank.returncode == 75 and "max_time" in rank.stdout, rank.stdout

"""All logs of a run that was killed, resumed and extended equal those of one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.runs import ROOT, TINY, Finished
from tests.training.read_logs import events, open_files, wandb_rows

LOGGED = (
    *(argument for argument in TINY if "num_demos" not in argument),
    "trainer.logger=[csv,tensorboard]",
    "trainer.wandb.use_wandb=true",
    "trainer.trainer.num_sanity_val_steps=1",
    "trainer.trainer.check_val_every_n_epoch=null",
    "trainer.trainer.val_check_interval=2",
    "trainer.trainer.save_top_k=-1",
    "trainer.trainer.num_demos=1",
)


def contents(run):
    """All that was logged, without times."""
    directory = run.directory
    return (directory / "metrics.csv").read_text(), events(directory / "tensorboard"), wandb_rows(directory)


def killed(runs, cache_dir, num_rows, *arguments):
    """Start a run and kill it, and all that it started, once metrics.csv has so many rows."""
    environment = {"EULER_RUNS": str(runs), "EULER_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1"}
    with open(f"{runs}.log", "w") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        end = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < end:
            found = [path.read_text().count("\n") for path in runs.rglob("metrics.csv")]
            if found and found[0] > num_rows:
                break
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run = Finished(process.returncode, (runs.parent / f"{runs.name}.log").read_text(), runs)
    assert run.code == -signal.SIGKILL, run.output
    return run


@pytest.fixture
def whole(train):
    run = train(*LOGGED, "trainer.trainer.max_steps=9", name="whole")
    assert run.code == 0, run.output
    return contents(run)


@pytest.mark.long
def test_logs_continue(train, whole, cache_dir, tmp_path):
    rows = [line.split(",")[:2] for line in whole[0].splitlines()[1:]]
    steps = [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 9]
    assert rows == [[str(step), "0"] for step in steps]
    assert len(whole[2]) == len(rows) + 5 * 3, (
        "original, reconstruction and picture of a demonstration at each validation"
    )
    assert [row["_step"] for row in whole[2]] == list(range(len(whole[2])))

    runs = tmp_path / "killed"
    run = killed(runs, cache_dir, 9, *LOGGED, "trainer.trainer.max_steps=9")
    resume = f"run.resume={run.directory}"
    killed(runs, cache_dir, 12, resume)
    assert contents(run) != whole
    final = train(resume, name="killed")
    assert final.code == 0, final.output
    assert contents(run) == whole
    assert open_files(run.directory, within_s=30) == []

    again = train(resume, name="killed")
    assert again.code == 0 and "nothing left to train" in again.output, again.output
    assert contents(run) == whole

"""progress.json of real runs: true at every end, and without any influence on the run."""

import json

import pytest

from pipeline.launch.slurm import facts
from tests.integration.background import Background, has_trained
from tests.integration.runs import TINY

VALIDATED = ("trainer.trainer.val_check_interval=1", "trainer.trainer.check_val_every_n_epoch=null")
HORIZON = {"max_epochs": 8, "max_steps": 3}


def progress(directory):
    return json.loads((directory / "progress.json").read_text(encoding="utf-8"))


def test_a_finished_run(train):
    run = train(*TINY, *VALIDATED)
    assert run.code == 0, run.output
    record = progress(run.directory)
    assert (record["state"], record["step"], record["steps"], record["epoch"]) == ("finished", 3, 3, 0)
    assert record["horizon"] == HORIZON and record["monitor"] == "val/sisdr"
    assert f"best val/sisdr: {record['best']:.3f}" in run.output
    assert set(record["metrics"]) == {"val/sisdr", "val/stft", "val/mel"}
    assert facts.read(run.directory).has_finished(HORIZON)


def test_an_extended_run(train):
    first = train(*TINY)
    longer = train(f"run.resume={first.directory}", "trainer.trainer.max_steps=5")
    assert longer.code == 0, longer.output
    record = progress(first.directory)
    assert (record["state"], record["step"], record["horizon"]["max_steps"]) == ("finished", 5, 5)
    again = train(f"run.resume={first.directory}")
    assert "nothing left to train" in again.output
    assert facts.read(first.directory).has_finished({"max_epochs": 8, "max_steps": 5})


def test_a_stopped_run_is_not_finished(preloaded, cache_dir, tmp_path):
    steps = (*TINY, "trainer.trainer.max_steps=60", "trainer.trainer.num_demos=0")
    run = Background(preloaded, tmp_path, cache_dir, *steps)
    run.wait_for(has_trained(3))
    run.send("SIGTERM")
    stopped = run.end()
    assert stopped.code == 75, stopped.output
    record = progress(stopped.directory)
    assert record["state"] == "stopped" and f"saved up to step {record['step']}" in stopped.output
    assert record["steps"] == 60 and record["step"] < 60
    assert not facts.read(stopped.directory).has_finished({"max_epochs": 8, "max_steps": 60})


def test_a_failed_run(train):
    run = train(
        *TINY, "trainer.optimizer.type=SGD", "trainer.optimizer.config.lr=1e30", "trainer.trainer.max_steps=9"
    )
    assert run.code == 1, run.output
    assert progress(run.directory)["state"] == "failed"


@pytest.mark.parametrize(
    "in_the_way", ["progress.json", pytest.param(".progress.json.tmp", marks=pytest.mark.long)]
)
def test_a_record_that_cannot_be_written_changes_nothing(in_the_way, train, tmp_path):
    usual, directory = train(*TINY, name="usual"), tmp_path / "disturbed" / "run"
    (directory / in_the_way).mkdir(parents=True)
    disturbed = train(*TINY, f"run.dir={directory}", name="disturbed")
    assert disturbed.code == 0, disturbed.output
    assert disturbed.output.count("progress.json cannot be written") == 1
    assert disturbed.weights == usual.weights
    assert (directory / "metrics.csv").read_bytes() == (usual.directory / "metrics.csv").read_bytes()

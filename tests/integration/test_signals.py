"""Signals: a run that is asked to stop saves, ends with code 75, and ends later as if nobody had asked."""

import signal
import subprocess
import sys
import time

import pytest

from tests.integration.background import Background, environment, has_trained, says
from tests.integration.processes import living_members
from tests.integration.runs import ROOT, TINY

STEPS = (*TINY, "trainer.trainer.max_steps=60", "trainer.trainer.num_demos=0")
TWO_RANKS = (*STEPS, "trainer.num_gpus=0", "trainer.num_processes=2", "trainer.global_batch_size=4")
RESUMED = "run.resume=auto"
SLOW_STEPS = (*STEPS, "trainer.trainer.accumulate_grad_batches=100")
VALIDATED = (*STEPS, "trainer.trainer.max_steps=6", "trainer.trainer.val_check_interval=3")
LONG_VALIDATION = (*VALIDATED, "trainer.trainer.limit_val_batches=150")


@pytest.fixture
def start(preloaded, cache_dir, tmp_path):
    return lambda *arguments: Background(preloaded, tmp_path, cache_dir, *arguments)


@pytest.fixture(scope="module")
def uninterrupted(preloaded, cache_dir, tmp_path_factory):
    """The weights and metrics of a command that nobody disturbed, trained once."""
    known = {}

    def get(*arguments):
        if arguments not in known:
            folder = tmp_path_factory.mktemp("uninterrupted")
            run = Background(preloaded, folder, cache_dir, *arguments).end()
            assert run.code == 0, run.output
            known[arguments] = (run.weights, (run.directory / "metrics.csv").read_bytes())
        return known[arguments]

    return get


def ended_alike(run, reference):
    assert run.code == 0, run.output
    assert run.weights == reference[0]
    assert (run.directory / "metrics.csv").read_bytes() == reference[1]


@pytest.mark.parametrize(
    "name",
    ["SIGINT", *(pytest.param(name, marks=pytest.mark.long) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2"))],
)
def test_a_signal_in_training(name, start, uninterrupted):
    run = start(*STEPS)
    run.wait_for(has_trained(5))
    run.send(name)
    stopped = run.end()
    assert stopped.code == 75, stopped.output
    assert f"{name} received: saving after this step" in stopped.output
    assert f"run.resume={stopped.directory}" in stopped.output
    ended_alike(start(*STEPS, RESUMED).end(), uninterrupted(*STEPS))


@pytest.mark.long
def test_two_ranks_stop_at_the_same_step(start, uninterrupted):
    run = start(*TWO_RANKS)
    run.wait_for(has_trained(5))
    run.send("SIGTERM")
    stopped = run.end()
    assert stopped.code == 75, stopped.output
    assert not living_members(run.runs, run.pid)
    ended_alike(start(*TWO_RANKS, RESUMED).end(), uninterrupted(*TWO_RANKS))


def test_a_signal_during_validation_is_not_kept_waiting(start, uninterrupted):
    run = start(*LONG_VALIDATION)
    run.wait_for(has_trained(3))
    run.send("SIGTERM")
    stopped = run.end()
    assert stopped.code == 75 and "validation (step 3)" not in stopped.output, stopped.output
    ended_alike(start(*LONG_VALIDATION, RESUMED).end(), uninterrupted(*LONG_VALIDATION))


def test_a_signal_during_the_first_validation(start):
    checked = (*TINY, "trainer.trainer.num_sanity_val_steps=200", "trainer.trainer.limit_val_batches=200")
    run = start(*checked)
    run.wait_for(says("Total params"))
    run.send("SIGUSR1")
    stopped = run.end()
    assert stopped.code == 75 and "before training):" not in stopped.output, stopped.output
    resumed = start(f"run.resume={stopped.directory}").end()
    assert resumed.code == 0, resumed.output


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(SLOW_STEPS, id="alone"),
        pytest.param((*SLOW_STEPS, *TWO_RANKS[-3:-1]), id="two ranks", marks=pytest.mark.long),
    ],
)
def test_a_second_interrupt_ends_the_run_and_all_its_processes(arguments, start):
    run = start(*arguments, "data.train_dataloader.num_workers=1")
    run.wait_for(has_trained(1))
    members = living_members(run.runs, run.pid)
    assert len(members) >= 2, members
    run.send("SIGINT")
    run.wait_for(says("SIGINT received"))
    run.send("SIGINT")
    ended = run.end()
    assert ended.code == 130 and "stopped at once" in ended.output, ended.output
    run.wait_for(lambda _: not living_members(run.runs, run.pid))


@pytest.mark.parametrize(
    "moment", ["banner", *(pytest.param(name, marks=pytest.mark.long) for name in ("imports", "directory"))]
)
def test_a_signal_at_start_up(moment, tmp_path, cache_dir):
    runs, output = tmp_path / "runs", tmp_path / "output"
    command = [sys.executable, str(ROOT / "train.py"), *TINY, RESUMED]

    def reached():
        if moment == "directory":
            return any(runs.rglob(".lock"))
        return moment == "imports" or "written to" in output.read_text()

    with output.open("w") as stream:
        run = subprocess.Popen(
            command, cwd=ROOT, env=environment(runs, cache_dir), stdout=stream, stderr=stream
        )
        try:
            time.sleep(0.3)
            while not reached():
                assert run.poll() is None, output.read_text()
                time.sleep(0.01)
            run.send_signal(signal.SIGTERM)
            assert run.wait(timeout=120) == 75, output.read_text()
        finally:
            run.kill()
    assert "start again with" in output.read_text() or "saved up to step 0" in output.read_text()
    again = subprocess.run(
        command, cwd=ROOT, env=environment(runs, cache_dir), capture_output=True, text=True
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(list(runs.rglob("last.ckpt"))) == 1

"""Waiting for jobs: not fooled by a requeue, and ending as the first job that has failed."""

import os
import signal
import threading

import pytest

from pipeline.launch.slurm.sweep import Sweep
from pipeline.launch.slurm.wait import Patience, watch
from tests.launch.slurm.recorded import failure, finished, history, progress, submit, want

QUICK = Patience(first_s=0.01, most_s=0.01, doubt_s=0.0)
DOUBTFUL = Patience(first_s=0.01, most_s=0.01, doubt_s=3600.0)


@pytest.fixture
def home(tmp_path, caplog):
    caplog.set_level("INFO")
    submit(tmp_path, want(1), want(2))
    return tmp_path


def wait(home, patience, *jobs):
    return watch(Sweep.open(home), jobs or ["12_0", "12_1"], patience)


def test_all_have_finished(home, slurm, caplog):
    finished(home / "0")
    finished(home / "1")
    slurm.jobs("12_0 COMPLETED", "12_1 COMPLETED")
    assert wait(home, DOUBTFUL) == 0
    assert "2 runs: 2 finished" in caplog.text


def test_the_code_of_the_first_that_failed(home, slurm):
    finished(home / "0")
    failure(home / "1", "12_1", 3, "a flaw")
    history(home / "1", "12_1 0 start node1", "12_1 0 failed 3")
    slurm.jobs("12_0 COMPLETED", "12_1 FAILED 3:0")
    assert wait(home, DOUBTFUL) == 3


def test_only_the_jobs_of_this_launch_count(home, slurm):
    finished(home / "0")
    slurm.jobs("12_0 COMPLETED", "12_1 RUNNING")
    assert wait(home, DOUBTFUL, "12_0") == 0


@pytest.mark.parametrize(
    "gap", [("12_0 FAILED",), ("12_0 NODE_FAIL", "12_0 NODE_FAIL"), ("",), ("", "12_0 FAILED", "")]
)
def test_a_requeued_job_has_not_ended(gap, home, slurm, caplog):
    """Between two attempts the queue may show a failed job, or none; the run directory knows of no end."""
    history(home / "0", "12_0 0 start node1")
    progress(home / "0", "stopped")
    turns = ("12_0 RUNNING", *gap, "12_0 PENDING BeginTime", "12_0 RUNNING", "12_0 CANCELLED 0:15")
    slurm.jobs_in_turn(*turns)
    assert wait(home, DOUBTFUL, "12_0") == 143
    said = [line for line in caplog.messages if "job 12_0" in line]
    words = [line.partition(": ")[2].split()[0] for line in said]
    assert words == ["running", "queued", "running", "cancelled"]


def test_an_end_that_stays_is_believed(home, slurm):
    history(home / "0", "12_0 0 start node1")
    slurm.jobs("12_0 TIMEOUT")
    assert wait(home, QUICK, "12_0") == 1


def test_left_the_queue_before_it_is_accounted_for(home, slurm):
    """Nothing is known of the job for a while: that is no end."""
    history(home / "0", "12_0 0 start node1", "12_0 0 left COMPLETING")
    slurm.jobs_in_turn("12_0 RUNNING", "", "", "", "12_0 CANCELLED 0:15")
    assert wait(home, DOUBTFUL, "12_0") == 143


def test_ctrl_c_leaves_the_jobs(home, slurm, caplog):
    slurm.jobs("12_0 RUNNING", "12_1 PENDING Priority")
    former = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert wait(home, QUICK) == 130
    timer.join()
    assert (
        f"the jobs go on; to look: make status SWEEP={home}; to end them: make cancel SWEEP={home}"
        in caplog.text
    )
    assert not any(line.startswith("scancel") for line in slurm.asked)
    assert signal.getsignal(signal.SIGINT) is former


def test_a_controller_that_is_down_tells_no_end(home, slurm):
    history(home / "0", "12_0 0 start node1")
    slurm.jobs_in_turn("12_0 RUNNING", "down", "down", "12_0 RUNNING", "12_0 CANCELLED 0:15")
    assert wait(home, QUICK, "12_0") == 143


def test_nothing_to_wait_for(home, slurm):
    assert wait(home, DOUBTFUL, "99") == 0 and slurm.asked == []

"""How it stands with a run, from every end that it may have come to."""

import pytest

from pipeline.launch.slurm.states import survey
from pipeline.launch.slurm.sweep import Sweep
from tests.launch.slurm.recorded import failure, finished, history, progress, submit, want

START = "12_0 0 start node1"


@pytest.fixture
def run(tmp_path, slurm):
    submit(tmp_path, want(1))
    return tmp_path / "0"


def state(run):
    return survey(Sweep.open(run.parent).points)[0][0]


def told(run):
    found = state(run)
    return found.word, found.reason, found.code, found.is_certain


def test_queued(run, slurm):
    slurm.jobs("12_0 PENDING Priority")
    assert told(run) == ("queued", "Priority", 0, True)


def test_running_again(run, slurm):
    history(run, START, "12_0 0 requeued saved, to go on", "12_0 1 start node2")
    slurm.jobs("12_0 RUNNING")
    assert told(run) == ("running", "requeued saved, to go on", 0, True)
    assert state(run).facts.restarts == 1


def test_between_requeue_and_restart(run, slurm):
    """The queue has the job, whatever the accounting says of the attempt before."""
    history(run, START, "12_0 0 left COMPLETING")
    slurm.set("squeue", "12_0|PENDING|BeginTime\n")
    slurm.set("sacct", "12_0|FAILED|1:0\n")
    assert told(run) == ("queued", "BeginTime; preempted or requeued by SLURM", 0, True)


def test_a_job_that_waits_in_a_chain_runs(run, slurm):
    history(run, START, "12_0 0 successor 15_0")
    slurm.jobs("12_0 RUNNING", "15_0 PENDING Dependency")
    found = state(run)
    assert (found.word, found.job, found.active) == ("running", "12_0", ("12_0", "15_0"))


def test_finished(run, slurm):
    history(run, START, "12_0 0 finished")
    finished(run)
    slurm.jobs("12_0 COMPLETED")
    assert told(run) == ("finished", "", 0, True)


def test_a_genuine_error_has_the_code_of_the_training(run, slurm):
    history(run, START, "12_0 0 failed 3")
    failure(run, "12_0", 3, "ValueError: a flaw\nin two lines")
    slurm.jobs("12_0 FAILED 3:0")
    assert told(run) == ("failed", "ValueError: a flaw in two lines", 3, True)


def test_an_error_of_an_earlier_submission_is_not_this_one(run, slurm):
    history(run, START, "12_0 0 failed 1")
    failure(run, "12_0", 1, "a flaw")
    with Sweep.held(run.parent) as sweep:
        (planned,) = sweep.plan([want(1)])
        sweep.record(planned, "14", run.parent / "scripts" / "0.sh", "log")
        sweep.save()
    slurm.jobs("12_0 FAILED 1:0", "14 CANCELLED 0:0")
    found = state(run)
    assert (found.word, found.job) == ("cancelled", "14")
    slurm.jobs("12_0 FAILED 1:0", "14 PENDING Priority")
    assert state(run).word == "queued"


def test_gave_up(run, slurm):
    history(run, START, "12_0 100 gave up killed by signal 9 after 100 restarts")
    slurm.jobs("12_0 FAILED 0:9")
    assert told(run) == ("failed", "gave up killed by signal 9 after 100 restarts", 137, True)


def test_cancelled(run, slurm):
    history(run, START, "12_0 0 left CANCELLED")
    progress(run, "stopped")
    slurm.jobs("12_0 CANCELLED 0:15")
    assert told(run) == ("cancelled", "scancel", 143, True)


def test_cancelled_before_it_began_and_gone_without_a_trace(run, slurm):
    slurm.jobs("12_1 COMPLETED")
    assert told(run) == ("cancelled", "gone from SLURM before it began", 1, False)


@pytest.mark.parametrize(
    ("job", "reason", "code"),
    [
        ("TIMEOUT 0:0", "TIMEOUT", 1),
        ("NODE_FAIL 1:0", "NODE_FAIL, exit code 1", 1),
        ("OUT_OF_MEMORY 0:125", "OUT_OF_MEMORY by signal 125", 253),
        ("FAILED 75:0", "FAILED, exit code 75", 75),
    ],
)
def test_an_end_that_the_run_knows_nothing_of_is_doubted(job, reason, code, run, slurm):
    history(run, START)
    slurm.jobs(f"12_0 {job}")
    assert told(run) == ("failed", reason, code, False)


def test_completed_without_having_finished(run, slurm):
    history(run, START)
    slurm.jobs("12_0 COMPLETED")
    assert told(run) == ("stopped", "its job has ended before the horizon", 1, False)


def test_left_the_queue_and_not_accounted_for_yet(run, slurm):
    history(run, START)
    slurm.set("squeue", "")
    slurm.set("sacct", "12_0|RUNNING|0:0\n")
    assert told(run) == ("unknown", "SLURM has not said yet how its job ended", 1, False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("12_0 0 failed 3", ("failed", "failed 3", 3, True)),
        ("12_0 4 gave up killed by signal 9", ("failed", "gave up killed by signal 9", 1, True)),
        ("12_0 0 left COMPLETING", ("stopped", "left COMPLETING", 1, False)),
    ],
)
def test_without_accounting_the_history_decides(line, expected, run, slurm):
    history(run, START, line)
    slurm.set("squeue", "", code=1, errors="slurm_load_jobs error: Invalid job id specified")
    slurm.set("sacct", "", code=1, errors="Slurm accounting storage is disabled")
    assert told(run) == expected


def test_damaged_records_say_nothing(run, slurm):
    slurm.jobs("12_0 RUNNING")
    history(run, START)
    (run / "progress.json").write_text('{"state": "finished"', encoding="utf-8")
    (run / ".job" / "failure").write_text("", encoding="utf-8")
    with (run / ".job" / "history").open("a", encoding="utf-8") as file:
        file.write("2026-01-01T00:00:00+00:00\t12_0")
    assert told(run) == ("running", "", 0, True)
    assert state(run).facts.jobs == ("12_0",)

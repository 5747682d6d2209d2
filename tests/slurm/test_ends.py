"""What is not to be repeated ends once, in the state that tells why."""

import shutil

import pytest

from tests.data.conftest import write_good_files
from tests.slurm import recipes
from tests.slurm.cluster import wait_until
from tests.slurm.submitted import Sweep

pytestmark = pytest.mark.slurm


def _assert_one_start(sweep: Sweep, number: int = 0) -> None:
    starts = [line for line in sweep.history(number) if "\tstart " in line]
    assert len(starts) == 1, sweep.history(number)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.long), 1])
@pytest.mark.parametrize("requeue", ["true", pytest.param("false", marks=pytest.mark.long)])
def test_an_error_of_one_rank_ends_the_job_once(rank, requeue, sweep):
    """The other rank loses its peer, which is no reason to come back: the error is what counts."""
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job, f"site.requeue={requeue}")
    sweep.wait_for_step(4)
    sweep.interpreter.flaw.write_text(f"{rank}\n", encoding="utf-8")
    first, *others = sweep.cluster.end_of_jobs()
    assert (first.state, first.code, first.number) == ("FAILED", 1, 0)
    assert {job.state for job in others} <= {"CANCELLED"}
    assert sweep.cluster.restarts(first.name) == 0
    assert sweep.logs().count("ValueError: a flaw in the code") >= 1
    _assert_one_start(sweep)
    failure = (sweep.run_dir() / ".job" / "failure").read_text(encoding="utf-8")
    assert "a flaw in the code" in failure and f'"rank": {rank}' in failure


def test_data_that_are_gone_when_the_job_starts(sweep):
    """What was right at submission may be wrong on the node; the job fails with the message of a local run."""
    audio = sweep.folder / "audio"
    write_good_files(audio)
    sweep.cluster.occupy(8)
    sweep.submit(*recipes.ONE.common, *recipes.ONE.job, "data=folder", f"data.root={audio}")
    shutil.rmtree(audio)
    (job,) = sweep.cluster.end_of_jobs()
    assert (job.state, job.code) == ("FAILED", 1)
    assert str(audio) in sweep.logs()
    _assert_one_start(sweep)


@pytest.mark.parametrize("requeue", ["true", pytest.param("false", marks=pytest.mark.long)])
def test_scancel_ends_a_job_for_good(requeue, sweep):
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job, f"site.requeue={requeue}")
    sweep.wait_for_step(4)
    for job in sweep.cluster.running():
        sweep.cluster.ask("scancel", job)
    jobs = sweep.cluster.end_of_jobs()
    assert {job.state for job in jobs} == {"CANCELLED"}
    assert sweep.cluster.restarts(jobs[0].name) == 0
    _assert_one_start(sweep)


@pytest.mark.long
def test_a_run_that_dies_at_every_start_gives_up(sweep):
    """A rank that is killed before any checkpoint (out of memory, say) does not come back for ever."""
    sweep.submit(*recipes.TWO_RANKS.common, *recipes.TWO_RANKS.job, "trainer.trainer.save_every_n_minutes=60")
    killed = 0
    while not _is_over(sweep):
        seen = len(sweep.sessions())
        wait_until(lambda seen=seen: len(sweep.sessions()) > seen or _is_over(sweep), "training or the end")
        if not _is_over(sweep):
            sweep.kill_rank(1)
            killed += 1
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "FAILED" and job.code != 0
    assert 2 <= killed <= 5
    assert "gave up" in sweep.history()[-1]


def _is_over(sweep: Sweep) -> bool:
    return any(job.state in ("FAILED", "COMPLETED") for job in sweep.cluster.jobs())

"""Clusters on which `scontrol requeue` does not work, or is forbidden."""

import os
import signal
from pathlib import Path

import pytest

from tests.slurm import processes, recipes, strikes
from tests.slurm.submitted import Interpreter, Sweep

pytestmark = pytest.mark.slurm


def _broken_scontrol(folder: Path, times: int) -> str:
    """Make an scontrol whose requeueing fails so many times; return the line that puts it first on PATH."""
    tool = folder / "bin" / "scontrol"
    tool.parent.mkdir()
    count = folder / "asked"
    tool.write_text(
        "#!/bin/bash\n"
        'if [ "$1" = requeue ]; then\n'
        f'  echo "$2" >>{count}\n'
        f"  if [ \"$(wc -l <{count})\" -le {times} ]; then echo 'scontrol: access denied' >&2; exit 1; fi\n"
        "fi\n"
        'exec /usr/bin/scontrol "$@"\n',
        encoding="utf-8",
    )
    tool.chmod(0o755)
    return f"export PATH={tool.parent}:$PATH"


def _check_chain(sweep: Sweep, attempts: int) -> None:
    """Check that a chain of so many jobs ended well and left nothing behind."""
    jobs = sweep.cluster.end_of_jobs()
    trained = [
        job
        for job in jobs
        if any(f"\t{job.name}\t" in line and "\tstart" in line for line in sweep.history())
    ]
    assert len(trained) == attempts, sweep.history()
    assert trained[-1].state == "COMPLETED"
    assert {job.state for job in jobs if job not in trained} <= {"CANCELLED"}


@pytest.mark.long
def test_a_requeue_that_fails_at_first(sweep, reference):
    setup = _broken_scontrol(sweep.folder, 2)
    sweep.submit(*recipes.TWO_RANKS.common, *recipes.TWO_RANKS.job, setup=[setup])
    sweep.wait_for_step(8)
    strikes.ask_to_save(sweep)
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "COMPLETED" and sweep.cluster.restarts(job.name) == 1
    assert len((sweep.folder / "asked").read_text(encoding="utf-8").splitlines()) == 3
    sweep.check_nothing_lost()
    sweep.check_equal(reference(recipes.TWO_RANKS))


@pytest.mark.long
def test_a_requeue_that_never_works(sweep, reference):
    """Another job takes over."""
    setup = _broken_scontrol(sweep.folder, 1000)
    sweep.submit(*recipes.TWO_RANKS.common, *recipes.TWO_RANKS.job, setup=[setup])
    sweep.wait_for_step(8)
    strikes.ask_to_save(sweep)
    _check_chain(sweep, 2)
    sweep.check_nothing_lost()
    sweep.check_equal(reference(recipes.TWO_RANKS))


def test_a_chain_where_requeueing_is_forbidden(sweep, reference):
    """Preemption ends the job then; its successor, which waits for that, goes on. Twice."""
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job, "site.requeue=false")
    for step in (8, 24):
        sweep.wait_for_step(step)
        strikes.preempt(sweep)
    _check_chain(sweep, 3)
    sweep.check_nothing_lost()
    sweep.check_equal(reference(recipes.TWO_NODES))


@pytest.mark.long
def test_a_chain_of_array_tasks(sweep, reference):
    sweep.submit(*recipes.ONE.common, *recipes.ONE.job, "trainer.seed=1,2", "site.requeue=false")
    for number in range(2):
        sweep.wait_for_step(8, number)
    strikes.preempt(sweep)
    sweep.cluster.end_of_jobs()
    for number in range(2):
        assert len(sweep.sessions(number)) == 2
        sweep.check_equal(reference(recipes.ONE, f"trainer.seed={number + 1}"), number)


@pytest.mark.long
def test_a_chain_without_grace(sweep, reference):
    """Nothing of the job lives on to queue a successor when it dies."""
    sweep.interpreter = Interpreter(sweep.folder, is_deaf=True)
    sweep.submit(
        *recipes.ONE.common, *recipes.ONE.job, "site.requeue=false", "hydra.launcher.partition=abrupt"
    )
    sweep.wait_for_step(8)
    strikes.preempt(sweep)
    _check_chain(sweep, 2)
    assert not sweep.saved()
    sweep.check_equal(reference(recipes.ONE))


@pytest.mark.long
def test_a_chain_whose_script_is_killed(sweep, reference):
    sweep.submit(*recipes.ONE.common, *recipes.ONE.job, "site.requeue=false")
    sweep.wait_for_step(8)
    os.kill(_script_of(sweep), signal.SIGKILL)
    _check_chain(sweep, 2)
    sweep.check_equal(reference(recipes.ONE))


def _script_of(sweep: Sweep) -> int:
    """Return the process of the batch script of the only job."""
    ours = f"EULER_RUNS={sweep.folder / 'runs'}"
    found = [process for process in processes.named("slurm_script") if ours in processes.variables(process)]
    assert len(found) == 1, found
    return found[0]

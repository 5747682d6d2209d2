"""slurm/train.sbatch gives the same guarantees without any launcher."""

import shutil

import pytest

from tests.slurm import recipes, strikes
from tests.slurm.submitted import Sweep
from tests.slurm.test_frozen import copy_checkout

pytestmark = pytest.mark.slurm


def _submit(sweep: Sweep, *arguments: str) -> None:
    """Submit the template for two nodes, as one does who has not edited it."""
    logs = sweep.home / "logs"
    logs.mkdir(parents=True)
    options = ("--nodes=2", "--cpus-per-task=1", "--time=10", "--signal=USR2@30", f"--output={logs}/%j.log")
    variables = {"EULER_PYTHON": str(sweep.interpreter.write()), "OMP_NUM_THREADS": "1"}
    run = (f"run.dir={sweep.run_dir()}", *recipes.TWO_NODES.common, *recipes.TWO_NODES.job)
    done = sweep.command(["sbatch", *options, "slurm/train.sbatch", *run, *arguments], variables)
    assert done.returncode == 0, done.stderr


def test_it_is_preempted(sweep, reference):
    """The checkout is gone when the job comes back."""
    expected = reference(recipes.TWO_NODES)
    sweep.checkout = copy_checkout(sweep.folder / "checkout")
    _submit(sweep)
    sweep.wait_for_step(8)
    shutil.rmtree(sweep.checkout)
    strikes.preempt_once(sweep)
    sweep.check_equal(expected)


@pytest.mark.long
def test_an_error_ends_it_once(sweep):
    sweep.interpreter.flaw.parent.mkdir(parents=True, exist_ok=True)
    sweep.interpreter.flaw.write_text("1\n", encoding="utf-8")
    _submit(sweep)
    (job,) = sweep.cluster.end_of_jobs()
    assert (job.state, job.code) == ("FAILED", 1)
    assert sweep.cluster.restarts(job.name) == 0


@pytest.mark.long
def test_a_wrong_key_ends_it_at_its_start(sweep):
    _submit(sweep, "trainer.sede=3")
    (job,) = sweep.cluster.end_of_jobs()
    assert (job.state, job.code) == ("FAILED", 1)
    assert "trainer.sede" in sweep.logs() and "seed" in sweep.logs()

"""The environment of login nodes: made from its lock, without torch, enough to submit and to look after jobs."""

import pytest

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def login_node(site):
    """A checkout that has .venv-submit alone."""
    wheels = {"PIP_FIND_LINKS": str(site.wheels("cpu")), "PIP_NO_INDEX": "1"}
    site.run("make", "-C", site.checkout, "env-submit", **wheels)
    assert not (site.checkout / ".venv").exists()
    return site.checkout


def test_it_has_no_torch_and_submits(site, login_node, folder):
    python = login_node / ".venv-submit" / "bin" / "python"
    code, output = site.attempt(python, "-c", "import torch")
    assert code == 1 and "No module named 'torch'" in output
    arguments = ("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.dry_run=true", "trainer.seed=1,2")
    places = {"EULER_RUNS": str(folder), "EULER_CACHE": str(folder / "cache")}
    output = site.run(python, login_node / "train.py", *arguments, **places)
    assert "#SBATCH --array=0-1" in output


@pytest.mark.parametrize("target", ["status", "logs", "resume", "cancel", "sweep-table"])
def test_looking_after_jobs(target, site, login_node, folder):
    """Every command gets as far as to say that there is no such run."""
    code, output = site.attempt(
        "make", "-C", login_node, target, f"RUN={folder}/none", EULER_RUNS=str(folder)
    )
    assert code == 2 and "LaunchError: " in output and "no run" in output, output


def test_doctor_knows_the_environment(site, login_node, folder):
    _, output = site.attempt("make", "-C", login_node, "doctor", EULER_RUNS=str(folder))
    assert "as pinned in containers/requirements-submit.lock" in output
    assert "no torch in this environment, which only submits" in output
    assert "Python 3.11" in output

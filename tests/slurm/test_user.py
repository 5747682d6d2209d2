"""An ordinary user submits, is preempted, and goes on."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runs import ROOT
from tests.slurm import recipes, strikes
from tests.slurm.submitted import give

pytestmark = pytest.mark.slurm
_NAME = "euler-tester"


@pytest.fixture
def user() -> Iterator[str]:
    subprocess.run(["userdel", _NAME], capture_output=True)
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/bash", _NAME], check=True)
    for needed in (sys.executable, ROOT / "train.py"):
        if subprocess.run(["runuser", "-u", _NAME, "--", "test", "-r", needed]).returncode:
            pytest.skip(f"another user cannot read {needed}")
    yield _NAME
    subprocess.run(["userdel", _NAME], check=True)


def test_an_ordinary_user(user, sweep, shared, reference):
    expected = reference(recipes.TWO_NODES)
    sweep.cache = Path(shutil.copytree(shared / "cache", sweep.folder / "cache"))
    sweep.interpreter.write()
    give(sweep.folder, user)
    sweep.user = user
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job)
    sweep.wait_for_step(8)
    strikes.preempt(sweep)
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "COMPLETED" and sweep.cluster.restarts(job.name) == 1
    assert sweep.sessions() == [0, *sweep.saved()]
    assert {path.owner() for path in sweep.home.rglob("*")} == {user}
    sweep.check_equal(expected)

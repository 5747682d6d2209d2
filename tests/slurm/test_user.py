"""An ordinary user submits, is preempted, and goes on."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import recipes, strikes
from tests.slurm.interpreter import reachable_python
from tests.slurm.submitted import Interpreter, give
from tests.slurm.test_frozen import copy_checkout

pytestmark = pytest.mark.slurm
_NAME = "euler-tester"


@pytest.fixture
def user() -> Iterator[str]:
    subprocess.run(["userdel", _NAME], capture_output=True)
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/bash", _NAME], check=True)
    yield _NAME
    subprocess.run(["userdel", _NAME], check=True)


def _can_read(user: str, path: str | Path) -> bool:
    return subprocess.run(["runuser", "-u", user, "--", "test", "-r", path]).returncode == 0


def _python_of(user: str, folder: Path) -> Path:
    """Return an interpreter that a user may run: this one, or a copy where this one lies in a closed home."""
    packages = Path(sysconfig.get_path("purelib"))
    if not _can_read(user, packages / "torch" / "__init__.py"):
        pytest.skip(f"another user cannot read {packages}")
    if _can_read(user, sys.executable):
        return Path(sys.executable)
    return reachable_python(folder, packages, is_copied=False)


def test_an_ordinary_user(user, sweep, shared, reference):
    expected = reference(recipes.TWO_NODES)
    sweep.cache = Path(shutil.copytree(shared / "cache", sweep.folder / "cache"))
    sweep.checkout = copy_checkout(sweep.folder / "checkout")
    base = sweep.folder / "base"
    base.mkdir()
    sweep.interpreter = Interpreter(sweep.folder, program=_python_of(user, base))
    sweep.interpreter.write()
    give(sweep.folder, user)
    sweep.user = user
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job)
    strikes.preempt_once(sweep)
    assert {path.owner() for path in sweep.home.rglob("*")} == {user}
    sweep.check_equal(expected)

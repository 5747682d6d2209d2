"""A job trains what was submitted, whatever becomes of the checkout meanwhile."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.runs import ROOT
from tests.slurm import recipes, strikes
from tests.slurm.recipes import STEPS

pytestmark = pytest.mark.slurm


def copy_checkout(place: Path) -> Path:
    """Copy the files of this checkout, as they are now, into another one that may be edited."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a copy"]):
        subprocess.run([*git, *command], cwd=place, check=True)
    return place


def test_edits_change_nothing(sweep, reference):
    """conf/ changes while the job waits, the code while it is requeued, and in the end the checkout is gone."""
    expected = reference(recipes.TWO_NODES)
    sweep.checkout = copy_checkout(sweep.folder / "checkout")
    sweep.cluster.occupy(8)
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job, cwd=Path("/"))
    conf = sweep.checkout / "conf" / "trainer" / "default.yaml"
    conf.write_text(conf.read_text(encoding="utf-8").replace("seed:", "seed: 77 #"), encoding="utf-8")
    sweep.wait_for_step(8)
    module = sweep.checkout / "pipeline" / "training" / "module.py"
    module.write_text("raise RuntimeError('the edited code')\n", encoding="utf-8")
    strikes.preempt(sweep)
    sweep.wait_for_step(24)
    shutil.rmtree(sweep.checkout)
    strikes.preempt(sweep)
    jobs = sweep.cluster.end_of_jobs()
    assert [job.state for job in jobs] == ["COMPLETED"]
    assert sweep.step() == STEPS and len(sweep.sessions()) == 3
    sweep.check_equal(expected)

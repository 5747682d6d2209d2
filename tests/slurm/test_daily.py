"""What a user does all day: look before, submit again, see how it goes."""

import json

import pytest

from tests.slurm import recipes
from tests.slurm.cluster import wait_until
from tests.slurm.submitted import Interpreter, Sweep

pytestmark = pytest.mark.slurm
_SHORT = ("trainer.trainer.max_epochs=1", "data.train_dataset.segments_per_epoch=16")


def test_a_preview_shows_the_bytes_that_are_submitted(sweep):
    """It leaves nothing behind; SLURM itself has the same script."""
    points = (*recipes.TWO_NODES.common, *recipes.TWO_NODES.job, "trainer.seed=1,2")
    command = sweep.arguments(*points)
    before = sorted(sweep.folder.rglob("*"))
    preview = sweep.command([*command, "hydra.launcher.dry_run=true"])
    assert preview.returncode == 0, preview.stderr
    assert sorted(sweep.folder.rglob("*")) == before
    assert preview.stdout.startswith("#!/bin/bash\n#SBATCH")
    sweep.cluster.occupy(4)
    sweep.submit(*points)
    script = sweep.home / "scripts" / "0.sh"
    assert script.read_bytes() == preview.stdout.encode()
    array = sweep.cluster.jobs()[0].name.split("_")[0]
    held = sweep.cluster.ask("scontrol", "write", "batch_script", f"{array}_0", "-")
    assert held.strip() == preview.stdout.strip()
    sweep.cluster.ask("scancel", array)


def test_a_sweep_that_is_submitted_again(sweep, reference):
    """Six points, four of them done: two are submitted; nothing then; a longer one goes on where it was."""
    sweep.interpreter = Interpreter(sweep.folder, pause_s=0)
    points = (*recipes.ONE.common, *recipes.ONE.job, *_SHORT)
    for seeds, submitted in (("1,2,3,4", 4), ("1,2,3,4,5,6", 2), ("1,2,3,4,5,6", 0)):
        before = len(sweep.cluster.jobs())
        sweep.submit(*points, f"trainer.seed={seeds}")
        jobs = sweep.cluster.end_of_jobs()
        assert {job.state for job in jobs} == {"COMPLETED"}
        assert len(jobs) - before == submitted
    assert sorted(int(folder.name) for folder in sweep.home.glob("[0-9]*")) == list(range(6))
    longer = ("trainer.seed=2", "trainer.trainer.max_epochs=2")
    sweep.submit(*points, *longer)
    assert len(sweep.cluster.end_of_jobs()) == 7
    assert len(sweep.sessions(1)) == 2
    sweep.check_equal(reference(recipes.ONE, *_SHORT, *longer), 1)


def test_waiting_tells_the_worst(sweep):
    """With wait=true the launcher ends as the first job that has failed."""
    sweep.interpreter = Interpreter(sweep.folder, pause_s=0)
    sweep.interpreter.flaw.write_text("0\n", encoding="utf-8")
    waiting = ("hydra.launcher.wait=true", *_SHORT)
    done = sweep.command(sweep.arguments(*recipes.ONE.common, *recipes.ONE.job, *waiting))
    assert done.returncode == 1, done.stdout + done.stderr
    sweep.interpreter.flaw.unlink()
    done = sweep.command(sweep.arguments(*recipes.ONE.common, *recipes.ONE.job, *waiting))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [job.state for job in sweep.cluster.jobs()] == ["FAILED", "COMPLETED"]


@pytest.mark.long
def test_the_state_of_two_hundred_tasks(sweep):
    """Most have finished, four run, the rest waits."""
    _submit_two_hundred(sweep)
    wait_until(lambda: _count(sweep, "finished") >= 150, "150 that have finished")
    done = sweep.command(["make", "--no-print-directory", "status", f"SWEEP={sweep.home}"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished") >= 150
    assert done.stdout.count("trainer.seed=") >= 200


def _submit_two_hundred(sweep: Sweep) -> None:
    """Submit real tasks whose program only writes that it has finished, and runs on from the 197th."""
    sweep.interpreter.write()
    seeds = ",".join(str(seed) for seed in range(200))
    stand_in = sweep.folder / "stand-in"
    stand_in.write_text(
        "#!/bin/bash\n"
        "run=${!#}\n"
        '[ "$(basename "$run")" -lt 196 ] || exec sleep 300\n'
        f'cp {sweep.folder}/progress.json "$run/.p" && mv "$run/.p" "$run/progress.json"\n',
        encoding="utf-8",
    )
    stand_in.chmod(0o755)
    finished = {"state": "finished", "step": 4, "epoch": 1, "horizon": {"max_epochs": 1}, "steps_per_s": 3.0}
    finished |= {"monitor": "val/sisdr", "best": 1.0, "updated": "2026-01-01T00:00:00+00:00"}
    (sweep.folder / "progress.json").write_text(json.dumps(finished), encoding="utf-8")
    sweep.submit(
        *recipes.ONE.common,
        *recipes.ONE.job,
        *_SHORT,
        f"trainer.seed={seeds}",
        f"hydra.launcher.python={stand_in}",
    )


def _count(sweep: Sweep, state: str) -> int:
    files = sweep.home.glob("*/progress.json")
    return sum(json.loads(file.read_text(encoding="utf-8"))["state"] == state for file in files)

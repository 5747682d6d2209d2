"""Jobs that train in an image: an ordinary user submits them from a login node without torch."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.slurm import processes, recipes, strikes
from tests.slurm.cluster import Cluster, free_port, wait_until
from tests.slurm.enclosed import (
    USER,
    EnclosedSweep,
    Place,
    light_packages,
    open_fuse,
)
from tests.slurm.interpreter import reachable_python
from tests.slurm.submitted import give
from tests.slurm.test_frozen import copy_checkout

pytestmark = [pytest.mark.slurm, pytest.mark.containers]


@pytest.fixture(scope="module")
def place(workplace, request):
    """The user, the image, Apptainer, and an interpreter that can submit.

    EULER_TEST_SIF and EULER_TEST_APPTAINER, the folder of the program, save building them.
    """
    image, programs = os.environ.get("EULER_TEST_SIF"), os.environ.get("EULER_TEST_APPTAINER")
    if not image or not programs:
        image = request.getfixturevalue("sif_cpu")
        programs = request.getfixturevalue("site").apptainer
    subprocess.run(["userdel", USER], capture_output=True)
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/bash", USER], check=True)
    python = reachable_python(workplace / "light", light_packages(), is_copied=True)
    with open_fuse() as entry:
        yield Place(entry, Path(image), Path(programs), python)
    subprocess.run(["userdel", USER], check=True)


@pytest.fixture(scope="module")
def enclosing_cluster(workplace, place):
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    cluster = Cluster(workplace / "enclosing", free_port(17128 + 256 * worker), place.entry)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def checkout(workplace):
    return copy_checkout(workplace / "checkout")


@pytest.fixture
def sweep(enclosing_cluster, place, checkout, workplace, shared, reference):
    reference(recipes.ONE)  # makes the audio
    enclosing_cluster.begin()
    folder = Path(tempfile.mkdtemp(prefix="enclosed-", dir=workplace))
    made = EnclosedSweep(enclosing_cluster, folder, folder / "cache", place)
    made.checkout = Path(shutil.copytree(checkout, folder / "checkout"))
    shutil.copytree(shared / "cache", made.cache)
    made.interpreter.write()
    give(folder, USER)
    yield made
    sys.stdout.write(made.describe())


def refused(sweep, *arguments, **variables):
    """Return what a submission says that is refused; nothing is submitted or written."""
    before = sweep.cluster.jobs_so_far()
    done = sweep.command(sweep.arguments(*recipes.ONE.common, *arguments), variables)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said, said
    assert sweep.cluster.jobs_so_far() == before and not sweep.home.exists()
    return said


def failed_once(sweep):
    """Check that the job has ended as a genuine error, and return its reason."""
    (job,) = sweep.cluster.end_of_jobs()
    assert (job.state, job.code) == ("FAILED", 1)
    assert sweep.cluster.restarts(job.name) == 0
    return (sweep.run_dir() / ".job" / "failure").read_text(encoding="utf-8")


def left_of_the_user():
    """Return the processes of the user that still live."""
    listed = subprocess.run(["pgrep", "-u", USER], capture_output=True, text=True).stdout.split()
    return [process for process in map(int, listed) if processes.is_alive(process)]


def test_a_preempted_sweep(sweep, reference):
    """Two jobs, one on each node; both end as if nothing had happened."""
    expected = [reference(recipes.ONE, f"trainer.seed={seed}") for seed in (1, 2)]
    sweep.submit(*recipes.ONE.common, "trainer.seed=1,2", "hydra.launcher.cpus_per_task=2")
    for number in (0, 1):
        sweep.wait_for_step(8, number)
    strikes.preempt(sweep)
    jobs = sweep.cluster.end_of_jobs()
    assert [job.state for job in jobs] == ["COMPLETED"] * 2
    for number, job in enumerate(jobs):
        assert sweep.cluster.restarts(job.name) == 1
        assert len(sweep.sessions(number)) == 2, sweep.sessions(number)
        sweep.check_equal(expected[number], number)
    assert "Bus error" not in sweep.logs()
    starts = [line for number in (0, 1) for line in sweep.history(number) if "start " in line]
    assert {line.split()[-1] for line in starts} == {"node1", "node2"}
    assert "/opt/venv" in (sweep.run_dir() / "provenance.json").read_text(encoding="utf-8")
    shown = sweep.command(daily(sweep, "status", "--sweep", str(sweep.home)))
    assert shown.returncode == 0 and "2 runs: 2 finished" in shown.stdout, shown.stdout + shown.stderr


def daily(sweep, command, *arguments):
    return [str(sweep.place.python), "-m", f"pipeline.launch.slurm.{command}", *arguments]


@pytest.mark.long
def test_two_nodes(sweep, reference):
    """Ranks in images of two nodes find each other; the image lies in a folder with a space in its name."""
    expected = reference(recipes.TWO_NODES)
    (sweep.folder / "my images").mkdir()
    sweep.image = sweep.folder / "my images" / "the image.sif"
    sweep.image.symlink_to(sweep.place.image)
    give(sweep.folder, USER)
    common = (*recipes.TWO_NODES.common, *recipes.TWO_NODES.job)
    shown = sweep.command(sweep.arguments(*common, "hydra.launcher.dry_run=true"))
    assert shown.returncode == 0 and not sweep.home.exists(), shown.stderr
    sweep.submit(*common)
    assert (sweep.home / "scripts" / "0.sh").read_text(encoding="utf-8") == shown.stdout
    strikes.preempt_once(sweep)
    sweep.check_equal(expected)


@pytest.mark.long
@pytest.mark.parametrize("strike", [strikes.requeue, strikes.ask_to_save, strikes.kill_rank_1])
def test_two_ranks_of_a_node(strike, sweep, reference):
    expected = reference(recipes.TWO_RANKS)
    sweep.submit(*recipes.TWO_RANKS.common, *recipes.TWO_RANKS.job)
    sweep.wait_for_step(8)
    strike(sweep)
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "COMPLETED" and sweep.cluster.restarts(job.name) == 1
    sweep.check_equal(expected)


@pytest.mark.long
def test_cancelled_and_resumed(sweep, reference):
    """scancel leaves nothing on the node; the run goes on from the login node."""
    expected = reference(recipes.ONE)
    sweep.submit(*recipes.ONE.common)
    sweep.wait_for_step(8)
    ended = sweep.command(daily(sweep, "cancel", "--run", str(sweep.run_dir())))
    assert ended.returncode == 0, ended.stderr
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "CANCELLED"
    wait_until(lambda: not left_of_the_user(), "the end of all processes", 30)
    resumed = sweep.command(daily(sweep, "resume_run", "--run", str(sweep.run_dir())))
    assert resumed.returncode == 0, resumed.stderr
    assert [job.state for job in sweep.cluster.end_of_jobs()] == ["CANCELLED", "COMPLETED"]
    sweep.check_equal(expected)


@pytest.mark.long
def test_an_error_of_the_training(sweep):
    sweep.submit(*recipes.ONE.common)
    sweep.wait_for_step(2)
    sweep.interpreter.flaw.write_text("0\n", encoding="utf-8")
    assert "a flaw in the code" in failed_once(sweep)


def test_refusals(sweep):
    """One after the other, as they are quick: the file, the lock, the programs, the configuration in the image."""
    assert "no such file; valid: an Apptainer image" in refused(sweep, "container.image=/nowhere/x.sif")
    text = sweep.folder / "text.sif"
    text.write_text("no image\n", encoding="utf-8")
    text.chmod(0o644)
    assert "is no image that apptainer can read" in refused(sweep, f"container.image={text}")
    assert "a folder; valid: an Apptainer image" in refused(sweep, f"container.image={sweep.folder}")
    assert "container.executable=apptainer: no such program here" in refused(sweep, PATH="/usr/bin:/bin")
    wrong = refused(sweep, "trainer.optimizer.config.lrr=1")
    assert "trainer.optimizer.config.lrr" in wrong and "did you mean 'lr'" in wrong
    assert "trainer.optimizer.type='AdamWW'" in refused(sweep, "trainer.optimizer.type=AdamWW")
    assert "no torch is installed here" in refused(
        sweep, "container.image=null", "hydra.launcher.python=null"
    )
    for lock in (sweep.checkout / "containers").glob("requirements-c*.lock"):
        lock.write_text(f"{lock.read_text(encoding='utf-8')}\n", encoding="utf-8")
    other = refused(sweep)
    assert "another containers/requirements-cpu.lock" in other and "build the image anew (make sif)" in other


@pytest.mark.long
@pytest.mark.parametrize("what", ["program", "image", "another image"])
def test_what_is_gone_when_the_job_starts(what, sweep):
    """The job fails with a clear line, and is not started again."""
    program = sweep.folder / "apptainer"
    program.symlink_to(sweep.place.programs / "apptainer")
    sweep.image = sweep.folder / "moving.sif"
    sweep.image.symlink_to(sweep.place.image)
    others = sweep.cluster.occupy(600)
    sweep.submit(*recipes.ONE.common, f"container.executable={program}")
    (program if what == "program" else sweep.image).unlink()
    if what == "another image":
        sweep.image.write_text("another one\n", encoding="utf-8")
    sweep.cluster.ask("scancel", others)
    reason = failed_once(sweep)
    said = {
        "program": "container.executable=",
        "image": "no file that can be read",
        "another image": "another image than the run was submitted with",
    }
    assert said[what] in reason


@pytest.mark.long
def test_another_image_for_a_run_that_goes_on(sweep, reference):
    """It is said, and is no other run."""
    expected = reference(recipes.ONE)
    sweep.submit(*recipes.ONE.common)
    sweep.wait_for_step(8)
    sweep.command(daily(sweep, "cancel", "--run", str(sweep.run_dir())))
    sweep.cluster.end_of_jobs()
    sweep.image = sweep.folder / "copy.sif"
    sweep.image.symlink_to(sweep.place.image)
    said = sweep.submit(*recipes.ONE.common)
    assert "resume: container.image was " in said and "may differ in its last bits" in said
    assert [job.state for job in sweep.cluster.end_of_jobs()] == ["CANCELLED", "COMPLETED"]
    sweep.check_equal(expected)


@pytest.mark.long
def test_the_template(sweep, reference):
    longer = "trainer.trainer.max_epochs=40"
    expected = reference(recipes.ONE, longer)
    logs = sweep.home / "logs"
    logs.mkdir(parents=True)
    give(sweep.folder, USER)
    options = ("--cpus-per-task=1", "--time=10", "--signal=USR2@30", f"--output={logs}/%j.log")
    variables = {
        "EULER_PYTHON": str(sweep.place.python),
        "EULER_IMAGE": str(sweep.image),
        "OMP_NUM_THREADS": "1",
    }
    run = (f"run.dir={sweep.run_dir()}", *recipes.ONE.common, *recipes.ONE.job, longer)
    done = sweep.command(["sbatch", *options, "slurm/train.sbatch", *run], variables)
    assert done.returncode == 0, done.stderr
    sweep.wait_for_step(8)
    strikes.preempt(sweep)
    (job,) = sweep.cluster.end_of_jobs()
    assert job.state == "COMPLETED" and sweep.cluster.restarts(job.name) == 1
    sweep.check_equal(expected)

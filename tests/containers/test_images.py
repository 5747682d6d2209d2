"""Training in the images: as an ordinary user, on a read-only root, without network, to the same bits as outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT
from tests.containers.inside import InApptainer, InDocker
from tests.integration.runs import TINY

pytestmark = pytest.mark.containers
CHECKER = ROOT / "tests" / "integration" / "chaos" / "checker.py"
TRAINING = (
    *TINY,
    "data.train_dataset.segments_per_epoch=16",
    "data.train_dataloader.num_workers=2",
    "data.eval_dataset.max_segments=6",
    "trainer.trainer.limit_val_batches=null",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.trainer.max_epochs=-1",
    "trainer.trainer.num_demos=0",
    "trainer.loss_config.bottleneck.weights.kl=1e-3",
)
STEPS = 10
FAST_TESTS = (  # of what an image brings: numbers, codecs, processes, configuration files
    *("config/test_compose.py", "config/test_registry.py", "data/test_audio_io.py", "data/test_workers.py"),
    *("dsp", "evaluation", "layers", "losses/test_losses.py", "losses/test_against_float64.py"),
    *("models/bottleneck", "models/test_autoencoder.py", "models/test_geometry.py", "models/test_seanet.py"),
)


def steps(last):
    return f"trainer.trainer.max_steps={last}"


def places(folder):
    return {"EULER_RUNS": str(folder), "EULER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def outside(*arguments, folder):
    """Train in .venv."""
    command = [sys.executable, "train.py", *arguments]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | places(folder), capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def within(inside, *arguments, folder):
    return inside("python", "train.py", *arguments, folder=folder, environment=places(folder))


def open_to_all(folder):
    """What one user wrote, another goes on with: here root and an ordinary user, elsewhere they are one."""
    subprocess.run(["chmod", "-R", "a+rwX", folder], check=True)


@pytest.fixture(scope="module")
def reference(site):
    """The run that nothing interrupts, trained in .venv of the same lock."""
    installed = json.loads((Path(sys.prefix) / "euler-lock.json").read_text())
    assert installed["lock"] == "requirements-cpu.lock", "these comparisons need make env LOCK=cpu"
    folder = site.session / "reference"
    folder.mkdir()
    outside(*TRAINING, steps(STEPS), f"run.dir={folder / 'run'}", folder=folder)
    return folder / "run"


def test_default_training(inside, folder):
    """Every setting as it is by default, but for an end after some steps."""
    output = within(
        inside, "trainer.trainer.max_steps=3", "trainer.trainer.limit_val_batches=1", folder=folder
    )
    (run,) = {path.parent for path in folder.glob("default/*/provenance.json")}
    assert (run / "checkpoints" / "last.ckpt").is_file(), output
    assert (run / "curves.png").is_file()


def test_resumed_on_the_other_side_bit_for_bit(inside, reference, folder):
    """Begun in the image, gone on with in .venv, ended in the image: as if it had never left .venv."""
    run = f"{folder}/run"
    within(inside, *TRAINING, steps(3), f"run.dir={run}", folder=folder)
    open_to_all(folder)
    outside(f"run.resume={run}", steps(6), folder=folder)
    open_to_all(folder)
    within(inside, f"run.resume={run}", steps(STEPS), folder=folder)
    open_to_all(folder)
    compared = subprocess.run(
        [sys.executable, CHECKER, reference, run], capture_output=True, text=True, timeout=120
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_deepspeed_needs_no_compiler(inside, folder):
    assert within(inside, *TINY, "trainer.strategy=deepspeed", "trainer.num_processes=2", folder=folder)
    looked = inside("sh", "-c", "! command -v cc gcc c++ nvcc", folder=folder)
    assert looked.strip() == ""


def test_fast_tests_in_docker(site, test_image, folder):
    tests = [f"tests/{name}" for name in FAST_TESTS]
    pytest_ = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    output = InDocker(site, test_image)(*pytest_, *tests, folder=folder, environment=places(folder))
    assert " passed" in output and "failed" not in output


def test_fast_tests_in_apptainer(site, sif_cpu, folder):
    """The SIF itself is tested; what the tests need besides is bound into it."""
    packages = site.session / "dev"
    lock, wheels = ROOT / "containers" / "requirements-dev.lock", site.wheels("cpu")
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--require-hashes", "--no-index"]
    site.run(*pip, "--only-binary", ":all:", "--find-links", wheels, "--target", packages, "-r", lock)
    enclosed = InApptainer(
        site, sif_cpu, (f"{packages}:/opt/dev:ro", f"{site.checkout}/tests:/opt/euler/tests:ro")
    )
    tests = [f"tests/{name}" for name in FAST_TESTS]
    pytest_ = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    surroundings = places(folder) | {"PYTHONPATH": "/opt/dev"}
    output = enclosed(*pytest_, *tests, folder=folder, environment=surroundings)
    assert " passed" in output and "failed" not in output

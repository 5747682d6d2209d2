"""Training in an image: as an ordinary user, on a read-only root, without network, to the same bits as outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT
from tests.integration.runs import TINY

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


def open_to_all(folder):
    """What one user wrote, another goes on with: here root and an ordinary user, elsewhere they are one."""
    subprocess.run(["chmod", "-R", "a+rwX", folder], check=True)


class TrainingInAnImage:
    """What holds in any image; a subclass says with a fixture `inside` how commands run in one."""

    @pytest.fixture
    def train(self, inside, folder):
        """Return how to train in the image."""
        return lambda *arguments: inside(
            "python", "train.py", *arguments, folder=folder, environment=places(folder)
        )

    @pytest.fixture
    def reference(self, site):
        """The run that nothing interrupts, trained in .venv of the same lock."""
        installed = json.loads((Path(sys.prefix) / "euler-lock.json").read_text())
        assert installed["lock"] == "requirements-cpu.lock", "these comparisons need make env LOCK=cpu"

        def train(folder):
            folder.mkdir()
            outside(*TRAINING, steps(STEPS), f"run.dir={folder / 'run'}", folder=folder)

        return site.once("reference", train) / "run"

    def test_default_training(self, train, folder):
        """Every setting as it is by default, but for an end after some steps."""
        output = train("trainer.trainer.max_steps=3", "trainer.trainer.limit_val_batches=1")
        (run,) = {path.parent for path in folder.glob("default/*/provenance.json")}
        assert (run / "checkpoints" / "last.ckpt").is_file(), output
        assert (run / "curves.png").is_file()

    def test_resumed_on_the_other_side_bit_for_bit(self, train, reference, folder):
        """Begun in the image, gone on with in .venv, ended in the image: as if it had never left .venv."""
        run = f"{folder}/run"
        train(*TRAINING, steps(3), f"run.dir={run}")
        open_to_all(folder)
        outside(f"run.resume={run}", steps(6), folder=folder)
        open_to_all(folder)
        train(f"run.resume={run}", steps(STEPS))
        open_to_all(folder)
        compared = subprocess.run(
            [sys.executable, CHECKER, reference, run], capture_output=True, text=True, timeout=120
        )
        assert compared.returncode == 0, compared.stdout + compared.stderr

    def test_deepspeed_needs_no_compiler(self, train, inside, folder):
        assert train(*TINY, "trainer.strategy=deepspeed", "trainer.num_processes=2")
        looked = inside("sh", "-c", "! command -v cc gcc c++ nvcc", folder=folder)
        assert looked.strip() == ""


def check_fast_tests(inside, folder, **variables):
    """Run the fast tests inside; they pass."""
    tests = [f"tests/{name}" for name in FAST_TESTS]
    pytest_ = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    output = inside(*pytest_, *tests, folder=folder, environment=places(folder) | variables)
    assert " passed" in output and "failed" not in output

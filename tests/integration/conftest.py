"""Real runs of `train.py`, small enough for two cores."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

# A run of a few seconds: three steps on short segments, one validation batch.
TINY = (
    "data.segment_frames=5",
    "data.train_dataloader.batch_size=4",
    "data.train_dataloader.num_workers=0",
    "data.eval_dataloader.batch_size=4",
    "trainer.trainer.max_steps=3",
    "trainer.trainer.limit_val_batches=1",
    "trainer.trainer.num_sanity_val_steps=0",
    "trainer.trainer.log_every_n_steps=1",
    "trainer.trainer.num_demos=1",
)


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    code: int
    output: str
    runs: Path

    @property
    def directories(self) -> list[Path]:
        return sorted(path.parent for path in self.runs.rglob("provenance.json"))

    @property
    def directory(self) -> Path:
        assert len(self.directories) == 1, (self.directories, self.output)
        return self.directories[0]

    @property
    def weights(self) -> str:
        return weights_digest(self.directory / "checkpoints" / "last.ckpt")


def weights_digest(checkpoint: Path) -> str:
    """sha256 over the names and bytes of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(load_weights(checkpoint).items()):
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def load_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all test processes, so that the default corpus is generated once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return shared / "cache"


@pytest.fixture
def train(tmp_path: Path, cache_dir: Path) -> Callable[..., Finished]:
    """Run `python train.py ARGUMENTS` as a user would and return what it did."""

    def run(*arguments: str, name: str = "runs", cwd: Path = ROOT, timeout_s: float = 240) -> Finished:
        runs = tmp_path / name
        environment = os.environ | {
            "EULER_RUNS": str(runs),
            "EULER_CACHE": str(cache_dir),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("EULER_DATA", None)
        result = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout_s,
        )
        return Finished(result.returncode, result.stdout, runs)

    return run

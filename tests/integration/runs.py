"""Real runs of `train.py`, small enough for two cores."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

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
    "trainer.trainer.num_demos=0",
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

"""What training starts from: the run's own last checkpoint, another run's weights, or nothing."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.training.checkpoint import BEST, LAST, load_weights, read
from pipeline.training.module import AutoencoderModule


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        checkpoint: the run's own checkpoint to continue from, or None.
        step: its optimiser steps, or None.
        name: what the first validation measures, `untrained` weights or those `at start`.
        notes: lines to print.
    """

    checkpoint: Path | None
    step: int | None
    name: str
    notes: tuple[str, ...]


def find_start(checkpoints: Path, init_from: str | None, module: AutoencoderModule) -> Start:
    """Find the run's last checkpoint, or load the weights that a new run begins with.

    Raises:
        CheckpointError: a checkpoint is damaged or belongs to another model.
    """
    last = checkpoints / LAST
    if last.exists():
        step = saved_step(checkpoints)
        return Start(last, step, "at start", (f"continues from {last} at step {step}",))
    if init_from is not None:
        source = _weights_of(Path(init_from))
        load_weights(module.autoencoder, source)
        return Start(None, None, "at start", (f"starts from the weights of {source}",))
    return Start(None, None, "untrained", ())


def saved_step(checkpoints: Path) -> int:
    """Return the optimiser steps of the run's last checkpoint, 0 where there is none yet."""
    last = checkpoints / LAST
    return int(read(last)["global_step"]) if last.exists() else 0


def _weights_of(path: Path) -> Path:
    """Return the checkpoint that a path means: itself, or the best one of a run directory."""
    candidates = [path / "checkpoints" / name for name in (BEST, LAST)] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])

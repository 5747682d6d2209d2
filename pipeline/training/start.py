"""What training starts from: the run's own newest checkpoint, another run's weights, or nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.training.checkpoint import BEST, LAST, load_weights, log_mark, peek_step
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.module import AutoencoderModule


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        checkpoint: the run's own checkpoint to continue from, or None.
        step: its optimiser steps, or None.
        log_mark: how far the logs were when it was written, or None.
        name: what the first validation measures, `untrained` weights or those `at start`.
        notes: lines to print.
    """

    checkpoint: Path | None
    step: int | None
    log_mark: dict[str, Any] | None
    name: str
    notes: tuple[str, ...]


def find_start(
    store: CheckpointStore, init_from: str | None, module: AutoencoderModule, is_first_rank: bool
) -> Start:
    """Find the run's newest whole checkpoint, or load the weights that a new run begins with.

    Args:
        store: the run's checkpoints.
        init_from: checkpoint or run directory whose weights a new run begins with.
        module: takes these weights.
        is_first_rank: damaged checkpoints are renamed by one process only.

    Raises:
        CheckpointError: the weights to begin with are damaged or belong to another model.
    """
    found = store.newest(may_rename=is_first_rank)
    if found.path is not None:
        step = peek_step(found.path)
        notes = (*found.notes, f"continues from {found.path} at step {step}")
        return Start(found.path, step, log_mark(found.path), "at start", notes)
    notes = found.notes
    if notes:
        notes = (*notes, "no whole checkpoint is left: the run starts from its beginning")
    if init_from is not None:
        source = _weights_of(Path(init_from))
        load_weights(module.autoencoder, source)
        return Start(None, None, None, "at start", (*notes, f"starts from the weights of {source}"))
    return Start(None, None, None, "untrained", notes)


def _weights_of(path: Path) -> Path:
    """Return the checkpoint that a path means: itself, or the best one of a run directory."""
    candidates = [path / "checkpoints" / name for name in (BEST, LAST)] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])

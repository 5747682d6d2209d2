"""What training starts from: the run's own newest checkpoint, another run's weights, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError
from pipeline.models.build import build_autoencoder
from pipeline.training.checkpoint import (
    BEST,
    LAST,
    autoencoder_weights,
    load_weights,
    log_mark,
    peek_step,
    require_weights,
)
from pipeline.training.checkpoints.file import FOREIGN, load_file, verify_file
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.module import AutoencoderModule
from pipeline.training.optimizer import misfit

_CAUSE = "; was config.yaml edited, or the code updated, since it was written?"


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        checkpoint: the run's own checkpoint to continue from, or None.
        step: its optimiser steps, or None.
        log_mark: how far the logs were when it was written, or None.
        name: what the first validation measures, `untrained` weights or those `at start`.
        notes: lines to print.
        weights: file whose weights a new run begins with, or None.
    """

    checkpoint: Path | None
    step: int | None
    log_mark: dict[str, Any] | None
    name: str
    notes: tuple[str, ...]
    weights: Path | None = None


def find_start(
    store: CheckpointStore,
    init_from: str | None,
    module: AutoencoderModule,
    optimizer: Mapping[str, Any],
    is_first_rank: bool,
) -> Start:
    """Find the run's newest whole checkpoint, or load the weights that a new run begins with.

    Args:
        store: the run's checkpoints.
        init_from: checkpoint or run directory whose weights a new run begins with.
        module: takes these weights.
        optimizer: `{type, config}` of the run's optimiser.
        is_first_rank: damaged checkpoints are renamed by one process only.

    Raises:
        CheckpointError: the weights to begin with are damaged or belong to another model, the newest checkpoint does
            not fit the configuration, or all are gone.
    """
    found = store.newest(may_rename=is_first_rank)
    if found.path is None and store.is_lost:
        raise CheckpointError(
            f"{store.directory}: no checkpoint is there, and this run has saved some; is the disk mounted, was the "
            "folder moved? Put it back, then resume; or start a new run"
        )
    if found.path is not None:
        _check_fits(found.path, module, optimizer)
        step = peek_step(found.path)
        notes = (*found.notes, f"continues from {found.path} at step {step}")
        return Start(found.path, step, log_mark(found.path), "at start", notes)
    notes = found.notes
    if notes:
        notes = (*notes, "no whole checkpoint is left: the run starts from its beginning")
    if init_from is not None:
        source = _weights_of(Path(init_from))
        load_weights(module.autoencoder, source)
        if module.averaged is not None:
            module.averaged.restart(module.autoencoder)
        return Start(None, None, None, "at start", (*notes, f"starts from the weights of {source}"), source)
    return Start(None, None, None, "untrained", notes)


def check_weights(init_from: str, description: Mapping[str, Any]) -> None:
    """Check the weights that a new run is to begin with.

    Args:
        init_from: checkpoint or run directory.
        description: of the run's model.

    Raises:
        CheckpointError: they are damaged or belong to another model.
    """
    source = _weights_of(Path(init_from))
    with torch.device("meta"):  # names and shapes without the memory
        expected = build_autoencoder(description).state_dict()
    verify_file(source)
    require_weights(source, expected, autoencoder_weights(load_file(source, mmap=True)))


def _check_fits(path: Path, module: AutoencoderModule, optimizer: Mapping[str, Any]) -> None:
    """Check that a run's own checkpoint fits its configuration; torch would say so in the midst of restoring it.

    Raises:
        CheckpointError: names the first weight that differs, or what the optimiser misses.
    """
    stored = load_file(path, mmap=True)
    require_weights(path, module.state_dict(), stored["state_dict"], _CAUSE)
    try:
        (state,) = stored["optimizer_states"]
        num_weights = sum(len(group["params"]) for group in state["param_groups"])
        reason = misfit(optimizer, state)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: {FOREIGN} (its optimizer_states)") from None
    num_expected = sum(weight.requires_grad for weight in module.autoencoder.parameters())
    if num_weights != num_expected:
        reason = f"it has {num_weights} weights instead of {num_expected}"
    if reason is not None:
        raise CheckpointError(f"{path}: its optimiser state does not fit trainer.optimizer: {reason}{_CAUSE}")


def _weights_of(path: Path) -> Path:
    """Return the checkpoint that a path means: itself, or the best one of a run directory."""
    candidates = [path / "checkpoints" / name for name in (BEST, LAST)] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])

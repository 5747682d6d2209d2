"""Checkpoints: one file, or an index file and the shards of the ranks beside it; readable without the training code."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError
from pipeline.training.checkpoints.file import FOREIGN, load_file, verify_file
from pipeline.training.checkpoints.optimizer_parts import merge_parts
from pipeline.training.checkpoints.shards import SHARDS, check_shards, load_shards

_AVERAGED = "averaged.network."  # see weight_average
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


def verify(path: Path) -> None:
    """Check every byte of a checkpoint and of its shards against checksums.

    Raises:
        DamagedCheckpointError: the file or a shard of it is truncated, damaged or missing.
        CheckpointError: it is missing or cannot be read.
    """
    verify_file(path)
    check_shards(path, load_file(path, mmap=True))


def read(path: Path, map_location: Any = "cpu", *, weights_only: bool = False) -> dict[str, Any]:
    """Load a verified checkpoint as plain data, in the form that one process without shards would have written.

    Args:
        path: the file.
        map_location: as of `torch.load`.
        weights_only: leave out what lies in shards, the optimiser's state; they need not be there.

    Raises:
        CheckpointError: as `verify`, or the file holds more than plain data.
    """
    verify_file(path)
    checkpoint = load_file(path, map_location=map_location)
    if weights_only or SHARDS not in checkpoint:
        return checkpoint
    check_shards(path, checkpoint)
    shards = load_shards(path, checkpoint, map_location)
    checkpoint["optimizer_states"] = [merge_parts(state, shards) for state in checkpoint["optimizer_states"]]
    del checkpoint[SHARDS]
    return checkpoint


def has_shards(path: Path) -> bool:
    """Return whether a part of a checkpoint lies in shards beside it.

    Raises:
        CheckpointError: it cannot be read.
    """
    return SHARDS in load_file(path, mmap=True)


def peek_step(path: Path) -> int:
    """Return the optimiser steps of a checkpoint without reading its tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    checkpoint = load_file(path, mmap=True)
    if "global_step" not in checkpoint:
        raise CheckpointError(
            f"{path}: weights alone, not the state of a run; run.init_from starts a run from them"
        )
    return int(checkpoint["global_step"])


def check_state(path: Path) -> None:
    """Check that a checkpoint holds what a run goes on from, without reading its tensors.

    Raises:
        CheckpointError: it cannot be read, holds weights alone, or another program wrote it.
    """
    peek_step(path)
    checkpoint = load_file(path, mmap=True)
    for key, kind in (("logs", dict), ("optimizer_states", list)):
        if key not in checkpoint or not isinstance(checkpoint[key], kind):
            raise CheckpointError(f"{path}: {FOREIGN} (no {key}); move it away, then resume")


def log_mark(path: Path) -> dict[str, Any]:
    """Return how far the logs were when a checkpoint was written, without reading its tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    return dict(load_file(path, mmap=True)["logs"])


def autoencoder_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the autoencoder's part of a checkpoint's `state_dict`: the average of its weights where there is one."""
    state = checkpoint["state_dict"]
    is_averaged = any(name.startswith(_AVERAGED) for name in state)
    prefix = _AVERAGED if is_averaged else "autoencoder."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_weights(autoencoder: torch.nn.Module, path: Path) -> None:
    """Load the weights of a checkpoint into an autoencoder, every one of them.

    Raises:
        CheckpointError: unreadable, or its weights belong to another model.
    """
    weights = autoencoder_weights(read(path, weights_only=True))
    require_weights(path, autoencoder.state_dict(), weights)
    autoencoder.load_state_dict(weights, strict=True)


def require_weights(
    path: Path, expected: Mapping[str, torch.Tensor], stored: Mapping[str, Any], remedy: str = ""
) -> None:
    """Check that weights have the names and shapes of a model's.

    Args:
        path: of the checkpoint that holds them.
        expected: of the model; its values may lie on the meta device.
        stored: of the checkpoint.
        remedy: what to do about it.

    Raises:
        CheckpointError: names the first that differs.
    """
    misfit = next(_misfits(expected, stored), None)
    if misfit is not None:
        raise CheckpointError(f"{path}: its weights do not fit the configured model: {misfit}{remedy}")


def _misfits(expected: Mapping[str, torch.Tensor], stored: Mapping[str, Any]) -> Iterator[str]:
    for name, value in expected.items():
        shape = list(value.shape)
        if name not in stored:
            yield f"{name} {shape} is not in it"
        elif not isinstance(stored[name], torch.Tensor):
            yield f"{name} is no tensor"
        elif list(stored[name].shape) != shape:
            yield f"{name} is {list(stored[name].shape)} instead of {shape}"
    yield from (f"the model has no {name}" for name in stored if name not in expected)


def weights_digest(autoencoder: torch.nn.Module) -> str:
    """Return the sha256 over the names and bytes of all weights, equal exactly where the weights are equal."""
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()

"""Checkpoints: written atomically, verified on load, readable without the training code.

A checkpoint is a zip archive whose members carry a CRC32 each (torch writes them), so that a truncated or flipped file
is told from a whole one without a second file that could go missing.
"""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError

BEST, LAST = "best.ckpt", "last.ckpt"


def write_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that `path` holds either the former or the new one, whole, at any instant.

    Raises:
        CheckpointError: the disk is full or not writable; the former checkpoint is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: cannot be written ({error}); free space there or set ckpt_dir"
        ) from error


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify(path: Path) -> None:
    """Check every member of a checkpoint against its CRC32.

    Raises:
        CheckpointError: the file is missing, truncated or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole checkpoint ({error})") from None
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged (checksum of {damaged} does not match)")


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a verified checkpoint as plain data (`weights_only=True`: no code in it is run).

    Raises:
        CheckpointError: as `verify`, or the file holds more than plain data.
    """
    verify(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as plain data ({str(error).splitlines()[0]})"
        ) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this project (no state_dict)")
    return checkpoint


def link(source: Path, target: Path) -> None:
    """Make `target` the same checkpoint as `source`, atomically and without copying where the disk allows."""
    if target.exists() and target.samefile(
        source
    ):  # renaming a file onto itself would leave the temporary name
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        temporary.write_bytes(source.read_bytes())
    temporary.replace(target)


def autoencoder_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the autoencoder's part of a checkpoint's `state_dict`."""
    prefix = "autoencoder."
    state = checkpoint["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_weights(autoencoder: torch.nn.Module, path: Path) -> None:
    """Load the weights of a checkpoint into an autoencoder, every one of them.

    Raises:
        CheckpointError: unreadable, or its weights belong to another model.
    """
    try:
        autoencoder.load_state_dict(autoencoder_weights(read(path)), strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit the configured model: {error}") from None


def weights_digest(autoencoder: torch.nn.Module) -> str:
    """Return the sha256 over the names and bytes of all weights, equal exactly where the weights are equal."""
    digest = hashlib.sha256()
    for name, value in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()

"""Checkpoints: written atomically, verified on load, readable without the training code.

A checkpoint is a zip archive whose members carry a CRC32 each (torch writes them), so that a truncated or flipped file
is told from a whole one without a second file that could go missing.
"""

import errno
import hashlib
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"

# What zipfile and torch raise on damaged bytes, found by flipping bits of small checkpoints.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    OverflowError,
    struct.error,
)


class DamagedCheckpointError(CheckpointError):
    """The bytes of a checkpoint are not those that were written; no other trouble in reading it counts as this."""


def write_atomically(
    checkpoint: dict[str, Any], path: Path, before_rename: Callable[[], None] | None = None
) -> None:
    """Write a checkpoint so that `path` holds either the former or the new one, whole, at any instant.

    Args:
        checkpoint: plain data and tensors.
        path: the file.
        before_rename: called when the new file is whole on the disk and `path` is still the former one.

    Raises:
        CheckpointError: the disk is full or not writable; the former checkpoint is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, temporary)  # a path, not a file object: written without Python's global lock
        _sync(temporary)
        if before_rename is not None:
            before_rename()
        temporary.replace(path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: cannot be written ({_reason(error, path.parent)}); free space there, or set "
            "trainer.trainer.ckpt_dir for a new run. Earlier checkpoints are untouched"
        ) from error


def _reason(error: Exception, directory: Path) -> str:
    """Return why a write failed; torch does not say it."""
    if isinstance(error, OSError) or not directory.exists():
        return str(error)
    free = shutil.disk_usage(directory).free
    return f"{str(error).splitlines()[0]}; {free / 1e6:.1f} MB are free"


def _sync(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify(path: Path) -> None:
    """Check every member of a checkpoint against its CRC32.

    Raises:
        DamagedCheckpointError: the file is truncated or damaged.
        CheckpointError: it is missing or cannot be read.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except _DAMAGE as error:
        raise DamagedCheckpointError(f"{path}: not a whole checkpoint ({error})") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if damaged is not None:
        raise DamagedCheckpointError(f"{path}: damaged (checksum of {damaged} does not match)")


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    if error.errno == errno.EINVAL:  # a damaged table of contents points to before the file's start
        return DamagedCheckpointError(f"{path}: not a whole checkpoint ({error})")
    return CheckpointError(
        f"{path}: cannot be read ({error.strerror}); mend this, then resume: it is not damaged"
    )


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a verified checkpoint as plain data (`weights_only=True`: no code in it is run).

    Raises:
        CheckpointError: as `verify`, or the file holds more than plain data.
    """
    verify(path)
    return _load(path, map_location=map_location)


def peek_step(path: Path) -> int:
    """Return the optimiser steps of a checkpoint without reading its tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    checkpoint = _load(path, mmap=True)
    if "global_step" not in checkpoint:
        raise CheckpointError(
            f"{path}: weights alone, not the state of a run; run.init_from starts a run from them"
        )
    return int(checkpoint["global_step"])


def log_mark(path: Path) -> dict[str, Any]:
    """Return how far the logs were when a checkpoint was written, without reading its tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    return dict(_load(path, mmap=True)["logs"])


def _load(path: Path, **options: Any) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: cannot be read as plain data ({reason}); was it written by this version of torch?"
        ) from None
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedCheckpointError(f"{path}: cannot be read as plain data ({reason})") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this project (no state_dict)")
    return checkpoint


def link(source: Path, target: Path) -> None:
    """Make `target` the same checkpoint as `source`, atomically and without copying where the disk allows.

    Raises:
        CheckpointError: the disk is full or not writable; the former `target` is untouched.
    """
    if target.exists() and target.samefile(
        source
    ):  # renaming a file onto itself would leave the temporary name
        return
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)
            _sync(temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{target}: cannot be written ({error}); free space there. Earlier checkpoints are untouched"
        ) from error


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

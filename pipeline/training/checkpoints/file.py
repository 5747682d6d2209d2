"""One file of a checkpoint: written atomically, verified on load, plain data.

It is a zip archive whose members carry a CRC32 each (torch writes them), so that a truncated or flipped file is told
from a whole one without a second file that could go missing.
"""

import errno
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

FOREIGN = "not a checkpoint of this project"
WEIGHTS = "state_dict"

# What zipfile and torch raise on damaged bytes, found by flipping bits of small checkpoints.
DAMAGE = (
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


def verify_file(path: Path) -> None:
    """Check every member of a file against its CRC32.

    Raises:
        DamagedCheckpointError: the file is truncated or damaged.
        CheckpointError: it is missing or cannot be read.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except DAMAGE as error:
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


def load_file(path: Path, required: str = WEIGHTS, **options: Any) -> dict[str, Any]:
    """Load a file as plain data (`weights_only=True`: no code in it is run).

    Args:
        path: the file.
        required: a key without which it is none of ours.
        options: of `torch.load`.

    Raises:
        DamagedCheckpointError: its bytes are not those that were written.
        CheckpointError: it cannot be read, or holds more than plain data, or something else.
    """
    try:
        checkpoint = torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: cannot be read as plain data ({reason}); was it written by this version of torch?"
        ) from None
    except DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedCheckpointError(f"{path}: cannot be read as plain data ({reason})") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not isinstance(checkpoint, dict) or required not in checkpoint:
        raise CheckpointError(f"{path}: {FOREIGN} (no {required})")
    if required == WEIGHTS and not isinstance(checkpoint[required], dict):
        raise CheckpointError(f"{path}: {FOREIGN} (its {required} has no names)")
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

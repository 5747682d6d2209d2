"""The shards of a checkpoint: one file per rank with its share of the optimiser's state, and the list that names them.

    checkpoints/last.ckpt                                            the index: all but the shards, and their list
    checkpoints/shards/00000120-1f9c33a7-4/rank-00000-of-00002.ckpt  one rank's share

The index is written when every shard is whole, and replaces the former index in one rename: a checkpoint is whole or
not there. Its list holds size and fingerprint of every shard, so that one that is missing, damaged or of another save
is named.
"""

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.training.checkpoints.file import DAMAGE, DamagedCheckpointError, load_file, verify_file

SHARDS = "shards"
"""Key of the list in an index, and name of the folder beside it."""

_PART = "part"  # key of a shard's content
_SAVE = re.compile(r"\d{8,}-[0-9a-f]{8}-\d+")  # what `save_name` gives; all else in the folder is the user's


@dataclass(frozen=True)
class Shard:
    """One entry of the list.

    Attributes:
        name: file name.
        size: in bytes.
        fingerprint: of the checksums in it.
    """

    name: str
    size: int
    fingerprint: int


def shard_name(rank: int, world_size: int) -> str:
    """Return the file name of a rank's shard."""
    return f"rank-{rank:05d}-of-{world_size:05d}.ckpt"


def describe_shard(path: Path) -> Shard:
    """Return the entry of a shard that was just written."""
    return Shard(path.name, path.stat().st_size, _fingerprint(path))


def shard_list(folder: str, shards: Iterable[Shard]) -> dict[str, Any]:
    """Return what an index holds about its shards.

    Args:
        folder: name of the save's folder.
        shards: in the order of the ranks.
    """
    return {"folder": folder, "files": [asdict(shard) for shard in shards]}


def check_shards(index: Path, checkpoint: Mapping[str, Any]) -> None:
    """Check that every shard of a checkpoint is there, whole and of the same save.

    Args:
        index: the checkpoint's file.
        checkpoint: its content.

    Raises:
        DamagedCheckpointError: names the shard.
        CheckpointError: a shard cannot be read.
    """
    for path, shard in _listed(index, checkpoint):
        if not path.is_file():
            raise DamagedCheckpointError(
                f"{path}: missing, a part of {index} (copy the folder {SHARDS} along with the checkpoint)"
            )
        if path.stat().st_size != shard.size:
            raise DamagedCheckpointError(
                f"{path}: {path.stat().st_size} bytes instead of {shard.size}, a part of {index}"
            )
        try:
            verify_file(path)
            if _fingerprint(path) != shard.fingerprint:
                raise DamagedCheckpointError(f"{path}: of another checkpoint")
        except DamagedCheckpointError as error:
            raise DamagedCheckpointError(f"{error}, a part of {index}") from None


def load_shards(index: Path, checkpoint: Mapping[str, Any], map_location: Any) -> list[Any]:
    """Return the content of every shard, in the order of the ranks.

    Raises:
        CheckpointError: a shard cannot be read.
    """
    return [
        load_file(path, _PART, map_location=map_location)[_PART] for path, _ in _listed(index, checkpoint)
    ]


def shard_content(part: Any) -> dict[str, Any]:
    """Return what a shard file holds."""
    return {_PART: part}


def prune(directory: Path, keep_from: str | None = None) -> None:
    """Remove the shards that no checkpoint of a folder lists.

    Args:
        directory: of the checkpoints.
        keep_from: name of the newest save's folder; those that the same start of the run has begun since then stay.
    """
    root = directory / SHARDS
    if not root.is_dir():
        return
    listed = {_folder(path) for path in directory.glob("*.ckpt*") if path.is_file()}
    for folder in root.iterdir():
        is_ours = _SAVE.fullmatch(folder.name) is not None and folder.is_dir()
        if is_ours and folder.name not in listed and not _is_later(folder.name, keep_from):
            shutil.rmtree(folder, ignore_errors=True)
    if not any(root.iterdir()):
        root.rmdir()


def save_name(step: int, start: str, count: int) -> str:
    """Return the name of a save's folder.

    Args:
        step: optimiser steps.
        start: what tells one start of a run from another.
        count: saves since this start.
    """
    return f"{step:08d}-{start}-{count}"


def _is_later(name: str, than: str | None) -> bool:
    if than is None:
        return False
    (_, start, count), (_, other_start, other_count) = name.split("-"), than.split("-")
    return start == other_start and int(count) > int(other_count)


def _folder(index: Path) -> str | None:
    """Return the folder that a checkpoint lists, None if it has no shards or cannot be read."""
    try:
        checkpoint = load_file(index, mmap=True)
    except CheckpointError:
        return None
    return str(checkpoint[SHARDS]["folder"]) if SHARDS in checkpoint else None


def _listed(index: Path, checkpoint: Mapping[str, Any]) -> Iterable[tuple[Path, Shard]]:
    if SHARDS not in checkpoint:
        return
    folder = index.parent / SHARDS / checkpoint[SHARDS]["folder"]
    for entry in checkpoint[SHARDS]["files"]:
        shard = Shard(**entry)
        yield folder / shard.name, shard


def _fingerprint(path: Path) -> int:
    """Return a checksum of the checksums of a file's members."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((info.filename, info.CRC, info.file_size) for info in archive.infolist())
    except DAMAGE as error:
        raise DamagedCheckpointError(f"{path}: not a whole checkpoint ({error})") from None
    return zlib.crc32(repr(members).encode())

"""What a file holds, as a digest: of all of it where that is quick, else of its beginning, middle and end."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

WHOLE, PARTS = "whole", "parts"
"""How a digest was made; it says so itself: `whole:5f0e...`. While it is not made, nothing follows: `whole:`."""

_WHOLE_FOLDER_BYTES = 4 << 30  # seconds, or a minute over a network, and once
_WHOLE_FILE_BYTES = 1 << 20
_PART_BYTES = 1 << 16
_READ_BYTES = 1 << 20
_DIGEST_BYTES = 16


def way_of(size_bytes: int, folder_bytes: int) -> str:
    """Return how the digest of a file is made, which depends on nothing but its folder.

    Args:
        size_bytes: of the file.
        folder_bytes: of all audio files in the folder: terabytes cannot be read before each first run.
    """
    is_small = size_bytes <= _WHOLE_FILE_BYTES or folder_bytes <= _WHOLE_FOLDER_BYTES
    return WHOLE if is_small else PARTS


def pending(way: str) -> str:
    """Return what stands for the digest of a file that was not read yet."""
    return f"{way}:"


def is_pending(content: str) -> bool:
    """Whether a file was not read yet."""
    return content.endswith(":")


def content_digest(path: Path, way: str) -> str:
    """Return the digest of a file.

    Args:
        path: the file.
        way: WHOLE or PARTS.

    Raises:
        OSError: it cannot be read.
    """
    digest = blake2b(digest_size=_DIGEST_BYTES)
    with path.open("rb", buffering=0) as stream:
        for block in _blocks(stream) if way == WHOLE else _parts(stream, path.stat().st_size):
            digest.update(block)
    return f"{way}:{digest.hexdigest()}"


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(_READ_BYTES):
        yield block


def _parts(stream: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    last = max(0, size_bytes - _PART_BYTES)
    for start in (0, last // 2, last):
        stream.seek(start)
        yield stream.read(_PART_BYTES)

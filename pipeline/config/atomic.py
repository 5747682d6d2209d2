"""Small text files that are there whole or not at all, and names that overwrite nothing."""

import os
from itertools import chain, count
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file that a kill at any instant leaves as it was before, or complete.

    Surrogate escapes are the bytes that they stand for.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    with unfinished.open("w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def free_name(path: Path) -> Path:
    """Return a path, or it with the first number under which there is nothing yet."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(candidate for candidate in chain([path], numbered) if not os.path.lexists(candidate))

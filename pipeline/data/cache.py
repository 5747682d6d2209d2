"""The cache folder: made on demand, locked between processes, and only ever changed by whole files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pipeline.errors import DataError


@contextmanager
def locked_cache(cache_dir: Path, name: str) -> Iterator[None]:
    """Creates the cache folder and holds the lock `name` in it: one process works, the others wait.

    Args:
        cache_dir: Folder to create; may exist.
        name: What is being made; processes that make different things do not wait for each other.

    Raises:
        DataError: The folder cannot be created or written, now or while the lock is held.
    """
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f".{name}.lock"):
            yield
    except OSError as error:
        raise DataError(
            f"data.cache_dir={cache_dir} cannot be written ({error.strerror}); "
            "set data.cache_dir or EULER_CACHE to a folder of your own with free space"
        ) from error


def unfinished(path: Path) -> Path:
    """Where something is built before it is renamed to `path`, by the one process that holds the lock."""
    return path.with_name(f".{path.name}.partial")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that others see either not at all or complete; call it with the lock held.

    It is not forced to the disk, which can take longer than the scan of a small folder: what is lost with the machine
    is made anew.
    """
    unfinished(path).write_bytes(content)
    os.replace(unfinished(path), path)

"""The cache folder: made on demand, locked between processes, and only ever changed by whole files."""

import os
import tempfile
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
        DataError: The folder cannot be created or written.
    """
    lock = FileLock(cache_dir / f".{name}.lock")
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise DataError(
            f"data.cache_dir={cache_dir} cannot be written ({error.strerror}); "
            "set data.cache_dir or EULER_CACHE to a folder of your own"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that other processes see either not at all or complete, whatever happens in between."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

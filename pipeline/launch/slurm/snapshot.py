"""The code of a job, copied at submission: what is edited while it waits or comes back changes nothing in it."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.provenance import REVISION, ROOT, revision

_FILES = ("train.py",)
_FOLDERS = ("pipeline", "conf", "hydra_plugins", "slurm")
_PINS = ("containers/*.lock", "containers/*.in")
_DIGITS = 16


def planned(home: Path) -> Path:
    """Return where the snapshot of the code as it is now lies, or will lie; writes nothing.

    Args:
        home: folder of the sweep, or of the single run.
    """
    return _place(home, _contents(ROOT))


def take(home: Path) -> Path:
    """Return a copy of the code as it is now; one with the same content is taken again.

    Args:
        home: folder of the sweep, or of the single run; made where it is not there yet.

    Raises:
        LaunchError: the copy that is there was changed, or none can be written.
    """
    contents = _contents(ROOT)
    target = _place(home, contents)
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(contents, target)
        except OSError as error:
            raise LaunchError(
                f"{target}: the code cannot be copied there ({error.strerror}); choose a folder of yours: set "
                "EULER_RUNS, run.dir or hydra.sweep.dir"
            ) from None
    if _digest(_contents(target)) != target.name:
        raise LaunchError(
            f"{target}: this copy of the code was changed after it was taken; once no job needs it, remove it"
        )
    return target


def _place(home: Path, contents: dict[str, tuple[bytes, int]]) -> Path:
    return home.absolute() / "code" / _digest(contents)


def _contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return relative path -> content and mode of every file that a job may need, read at one moment."""
    found = {}
    for path in sorted(_files(root)):
        found[path.relative_to(root).as_posix()] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


def _files(root: Path) -> Iterator[Path]:
    yield from (root / name for name in _FILES)
    for pattern in _PINS:
        yield from root.glob(pattern)
    for folder in _FOLDERS:
        for place, folders, names in os.walk(root / folder):
            folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
            yield from (
                path
                for path in (Path(place, name) for name in names)
                # what an editor leaves beside a file is none of the code, and may be a link to nothing
                if not path.name.startswith(".") and path.suffix != ".pyc" and path.is_file()
            )


def _digest(contents: dict[str, tuple[bytes, int]]) -> str:
    digest = sha256()
    for name, (content, _) in contents.items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:_DIGITS]


def _copy(contents: dict[str, tuple[bytes, int]], target: Path) -> None:
    """Write a snapshot that is there whole or not at all, and cannot be edited by mistake."""
    unfinished = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
    try:
        (unfinished / "files").mkdir()  # with the rights that the user gives to new folders
        for name, (content, mode) in contents.items():
            path = unfinished / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod((stat.S_IMODE(path.stat().st_mode) | mode & stat.S_IXUSR) & ~0o222)
        record = unfinished / "files" / REVISION
        record.write_text(json.dumps(revision(), indent=2) + "\n", encoding="utf-8")
        record.chmod(stat.S_IMODE(record.stat().st_mode) & ~0o222)
        try:
            (unfinished / "files").rename(target)
        except OSError:
            if not target.is_dir():  # else another submission was quicker, with the same content
                raise
    finally:
        shutil.rmtree(unfinished)

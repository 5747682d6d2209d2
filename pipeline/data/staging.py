"""Copies of the audio on a node's own disk: made once per node, used again by later runs, never relied upon."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from pipeline.data.manifest import Manifest
from pipeline.data.storage import Needed, WithFallback

_NUM_THREADS = 4
_REPORT_EVERY_S = 10.0
_GIB = 1 << 30


class _Copy(NamedTuple):
    """A file and where its copy belongs."""

    source: Path
    target: Path
    num_bytes: int

    def is_done(self) -> bool:
        """Whether the copy is there, of the same size and time."""
        try:
            there, here = self.source.stat(), self.target.stat()
        except OSError:
            return False
        return (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns)


def stage(manifests: Iterable[Manifest], scratch_dir: Path, report: Callable[[str], None]) -> None:
    """Copies what the manifests are read from into `scratch_dir`, unless it is there.

    Whatever goes wrong is reported and no more: the audio is then read from where it is. What a failed attempt
    has copied is removed, since others need the disk, too.

    Args:
        manifests: Audio of a run.
        scratch_dir: Folder on a disk of this machine; made if it is not there.
        report: Takes progress lines.
    """
    manifests = tuple(manifests)
    marker = _marker(manifests, scratch_dir)
    try:
        scratch_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(scratch_dir / f".{marker.name}.lock"):
            copies = [_copy(needed, scratch_dir) for needed in _needed(manifests)]
            missing = [copy for copy in copies if not copy.is_done()]
            if missing:
                _copy_all(missing, scratch_dir, report)
            marker.touch()
        if not missing:
            report(f"{_gib(copies)} GiB of audio are in data.scratch_dir={scratch_dir} already")
    except OSError as error:
        with suppress(OSError):
            marker.unlink(missing_ok=True)
        report(
            f"warning: data.scratch_dir={scratch_dir} cannot take the audio ({error.strerror}); make room or choose "
            "another folder; training reads the audio from where it is"
        )


def staged(manifest: Manifest, manifests: Iterable[Manifest], scratch_dir: Path) -> Manifest:
    """Returns a manifest that is read from its copies, where all `manifests` were staged; otherwise as it is.

    A copy that is gone or damaged is passed over: the original is read then.
    """
    if not os.path.exists(_marker(tuple(manifests), scratch_dir)):
        return manifest
    copies = manifest.storage.moved(partial(_home, scratch_dir))
    return replace(manifest, storage=WithFallback(copies, manifest.storage))


def _copy_all(missing: list[_Copy], scratch_dir: Path, report: Callable[[str], None]) -> None:
    """Copies files in parallel; removes all of them if one fails.

    Raises:
        OSError: The disk is full, or a file cannot be read or written.
    """
    free = shutil.disk_usage(scratch_dir).free
    if sum(copy.num_bytes for copy in missing) > free:
        raise OSError(0, f"{_gib(missing)} GiB are needed, {free / _GIB:.2f} GiB are free")
    next_report_s = time.monotonic() + _REPORT_EVERY_S
    pool = ThreadPoolExecutor(_NUM_THREADS)
    try:
        for done, _ in enumerate(pool.map(_copy_one, missing), 1):
            if time.monotonic() > next_report_s:
                report(f"copied {_gib(missing[:done])} of {_gib(missing)} GiB of audio to {scratch_dir}")
                next_report_s += _REPORT_EVERY_S
    except OSError:
        pool.shutdown(cancel_futures=True)
        for copy in missing:
            with suppress(OSError):
                copy.target.unlink(missing_ok=True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    report(f"copied {_gib(missing)} GiB of audio to data.scratch_dir={scratch_dir}")


def _copy_one(copy: _Copy) -> None:
    copy.target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = copy.target.with_name(f".{copy.target.name}.partial")
    try:
        before = copy.source.stat()
        shutil.copyfile(copy.source, unfinished)
        os.utime(unfinished, ns=(before.st_mtime_ns, before.st_mtime_ns))
        unfinished.replace(copy.target)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _needed(manifests: Iterable[Manifest]) -> list[Needed]:
    found: dict[Needed, None] = {}
    for manifest in manifests:
        files = ((entry.path, entry.size_bytes) for entry in manifest.entries)
        found |= dict.fromkeys(manifest.storage.needs(files))
    return list(found)


def _copy(needed: Needed, scratch_dir: Path) -> _Copy:
    return _Copy(needed.root / needed.path, _home(scratch_dir, needed.root) / needed.path, needed.num_bytes)


def _home(scratch_dir: Path, root: Path) -> Path:
    """Where the copy of a folder lies; two folders of one name do not meet."""
    return scratch_dir / f"{root.name}-{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]}"


def _marker(manifests: tuple[Manifest, ...], scratch_dir: Path) -> Path:
    """The file that says that all of it is there."""
    known = hashlib.sha256()
    for manifest in manifests:
        known.update(repr((str(manifest.root.resolve()), manifest.digest)).encode())
        for entry in manifest.entries:
            known.update(entry.mtime_ns.to_bytes(8, signed=True))
    return scratch_dir / f"staged-{known.hexdigest()[:16]}"


def _gib(copies: list[_Copy]) -> str:
    return f"{sum(copy.num_bytes for copy in copies) / _GIB:.2f}"

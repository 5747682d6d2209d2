"""What the files of manifests hold, read in a second pass, which nothing that is trained on depends on.

Digests are remembered in the cache as they come, by file, size and time, so that a pass goes on where it was ended.
"""

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pipeline.data.content import PARTS, WHOLE, content_digest, is_pending
from pipeline.data.manifest import AudioEntry, Manifest

_NUM_THREADS = 16  # where nothing else is to be done: reading waits for the disk or the network
_KEEP_EVERY_S = 10.0
_LOWEST_PRIORITY = 19


class _File(NamedTuple):
    """A file as a manifest knows it."""

    place: str
    size_bytes: int
    mtime_ns: int
    way: str


class Contents:
    """The digests of the files of some manifests.

    Args:
        manifests: Of one run; entries that know their content, as those of packs do, are left alone.
        cache_dir: Folder of the cache.
    """

    def __init__(self, manifests: Iterable[Manifest], cache_dir: Path) -> None:
        manifests = tuple(manifests)
        roots = sorted({str(manifest.root.resolve()) for manifest in manifests})
        self._cache_file = (
            cache_dir / f"contents-{hashlib.sha256(repr(roots).encode()).hexdigest()[:16]}.jsonl"
        )
        wanted = (_file(manifest, entry) for manifest in manifests for entry in manifest.entries)
        self._files = dict.fromkeys(file for file in wanted if file is not None)
        self._known: dict[_File, str] = {}
        if self._files:
            self._known = {file: digest for file, digest in self._remembered() if file in self._files}

    @property
    def missing(self) -> list[_File]:
        """Files that were not read yet."""
        return [file for file in self._files if file not in self._known]

    def fill(self, manifest: Manifest) -> Manifest:
        """Returns a manifest with the contents that are known."""
        if not self._files:
            return manifest
        return manifest.select(
            replace(entry, content=self._of(manifest, entry)) for entry in manifest.entries
        )

    def _of(self, manifest: Manifest, entry: AudioEntry) -> str:
        file = _file(manifest, entry)
        return entry.content if file is None else self._known.get(file, entry.content)

    def read(self, report: Callable[[str], None] = lambda line: None) -> None:
        """Reads what is missing as fast as it goes.

        Args:
            report: Takes progress lines.
        """
        pool = ThreadPoolExecutor(_NUM_THREADS)
        try:
            self._take(pool.map(_read, missing := self.missing), len(missing), report)
        finally:
            pool.shutdown(cancel_futures=True)

    def read_beside(self) -> None:
        """Reads what is missing, one file after the other, at the lowest priority; for a thread of its own."""
        if sys.platform == "linux":  # where a priority is that of a thread
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        missing = self.missing
        self._take(map(_read, missing), len(missing), lambda line: None)

    def _take(
        self, found: Iterable[tuple[_File, str | None]], total: int, report: Callable[[str], None]
    ) -> None:
        """Takes what was read, and keeps it in the cache from time to time."""
        new: list[tuple[_File, str]] = []
        next_s = time.monotonic() + _KEEP_EVERY_S
        for number, (file, digest) in enumerate(found, 1):
            if digest is not None:
                self._known[file] = digest
                new.append((file, digest))
            if time.monotonic() > next_s:
                report(f"read the content of {number} of {total} audio files")
                self._keep(new)
                new, next_s = [], next_s + _KEEP_EVERY_S
        self._keep(new)

    def _keep(self, new: list[tuple[_File, str]]) -> None:
        """Appends to the cache; without one the files are read again."""
        if not new:
            return
        # A line that a kill or a full disk has cut short, or another run has written into, is passed over.
        lines = "".join(f"\n{json.dumps([*file, digest])}" for file, digest in new)
        with suppress(OSError):
            self._cache_file.parent.mkdir(parents=True, exist_ok=True)
            with self._cache_file.open("ab", buffering=0) as stream:
                stream.write(f"{lines}\n".encode())

    def _remembered(self) -> Iterator[tuple[_File, str]]:
        try:
            lines = self._cache_file.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                place, size_bytes, mtime_ns, way, digest = json.loads(line)
            except (ValueError, TypeError):
                continue
            if not (isinstance(place, str) and isinstance(digest, str)) or is_pending(digest):
                continue
            if way in (WHOLE, PARTS) and digest.startswith(f"{way}:"):
                yield _File(place, size_bytes, mtime_ns, way), digest


def _file(manifest: Manifest, entry: AudioEntry) -> _File | None:
    """The file of an entry; None if its content is known."""
    if not is_pending(entry.content):
        return None
    place = os.path.abspath(manifest.storage.place(entry.path))
    return _File(place, entry.size_bytes, entry.mtime_ns, entry.content.rstrip(":"))


def _read(file: _File) -> tuple[_File, str | None]:
    """The digest of a file; None if it cannot be read, or is not that of the manifest any more."""
    try:
        digest = content_digest(Path(file.place), file.way)
        now = os.stat(file.place)
    except OSError:
        return file, None
    return file, digest if (now.st_size, now.st_mtime_ns) == (file.size_bytes, file.mtime_ns) else None

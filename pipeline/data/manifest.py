"""The manifest: every audio file of a folder, looked at once, and remembered in the cache.

The first scan reads headers and ends; of what lies between, nothing is known then. It is read when it is trained on,
where a file that fails is named and replaced, and for the digests of `pipeline.data.contents`.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import soundfile

from pipeline.data import AUDIO_EXTENSIONS
from pipeline.data.audio_io import AudioInfo
from pipeline.data.bad_files import BadFile, UnreadableAudioError
from pipeline.data.cache import locked_cache, write_atomically
from pipeline.data.collector import uncollected
from pipeline.data.content import pending, way_of
from pipeline.data.headers import first_look
from pipeline.data.listing import ListedFile, Listing, list_audio
from pipeline.data.storage import FileStorage, Storage

_VERSION = 4  # of the cache file: raise it when its form or the checks of `first_look` change
_NUM_THREADS = 16  # where opening a file means waiting for the network or a disk
_FILES_AT_ONCE = 16
_SLOW_S = 0.2e-3  # a file; faster than that, handing files to threads costs more than it brings
_REPORT_EVERY_S = 10.0
_NEVER = -1  # modification time of what must be looked at again next time


@dataclass(frozen=True, slots=True)
class AudioEntry:
    """A usable file."""

    path: str
    """Relative to the manifest's root."""
    size_bytes: int
    mtime_ns: int
    audio: AudioInfo
    content: str
    """Digest of what it holds, see `pipeline.data.content`; pending in a scanned manifest, see `contents`."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.audio.num_frames / self.audio.sample_rate_hz


@dataclass(frozen=True)
class Manifest:
    """The audio of a folder: usable files by path, bad files with reasons, unsupported files by extension."""

    root: Path
    entries: tuple[AudioEntry, ...]
    bad_files: tuple[BadFile, ...]
    unsupported: Mapping[str, int]
    storage: Storage = field(kw_only=True, repr=False)
    """Where the audio is read from."""

    @property
    def num_files(self) -> int:
        """Audio files, good and bad; unsupported formats are not among them."""
        return len(self.entries) + len(self.bad_files)

    @property
    def hours(self) -> float:
        """Hours of usable audio."""
        return sum(entry.duration_s for entry in self.entries) / 3600.0

    @cached_property
    def digest(self) -> str:
        """SHA-256 over path, size and length of the usable files: equal digests, equal training sequences."""
        lines = (f"{entry.path}\0{entry.size_bytes}\0{entry.audio.num_frames}\n" for entry in self.entries)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def select(self, entries: Iterable[AudioEntry]) -> "Manifest":
        """Returns the same account with other usable files."""
        return replace(self, entries=tuple(entries))


@dataclass(frozen=True, slots=True)
class _Record:
    """What is known about one file: its header, or why there is none."""

    file: ListedFile
    audio: AudioInfo | None
    reason: str = ""


@dataclass(frozen=True)
class _Account:
    """The content of a cache file."""

    records: tuple[_Record, ...]
    unreachable: tuple[BadFile, ...]
    unsupported: Mapping[str, int]

    def describes(self, listing: Listing) -> bool:
        """Whether nothing was added, removed or changed."""
        return (
            [record.file for record in self.records] == listing.files
            and self.unreachable == tuple(listing.unreachable)
            and self.unsupported == listing.unsupported
        )


def scan(
    root: Path,
    extensions: Iterable[str] = AUDIO_EXTENSIONS,
    *,
    cache_dir: Path,
    report: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Lists a folder and opens every file that is new or has changed; the rest is known from the cache.

    Nothing is written into the folder itself. Of several processes that scan at once, one opens the files.

    Args:
        root: Folder of audio.
        extensions: Extensions to take in, in any case, with or without the dot.
        cache_dir: Folder of the cache.
        report: Takes progress lines.

    Raises:
        DataError: The cache folder cannot be written.
    """
    with uncollected():
        return _scan(root, _normalised(extensions), cache_dir, report)


def load(root: Path, extensions: Iterable[str] = AUDIO_EXTENSIONS, *, cache_dir: Path) -> Manifest | None:
    """Returns what the last scan found, without a look at the folder; None if there was none.

    For the other processes of a run, after one of them has scanned.
    """
    with uncollected():
        account = _read_account(_cache_file(root, _normalised(extensions), cache_dir))
        return _manifest(root, account) if account.records else None


def _scan(root: Path, kept: tuple[str, ...], cache_dir: Path, report: Callable[[str], None]) -> Manifest:
    cache_file = _cache_file(root, kept, cache_dir)
    listing = list_audio(root, kept)
    account = _read_account(cache_file)
    if not account.describes(listing):
        with locked_cache(cache_dir, cache_file.stem):
            known = _read_account(cache_file)  # another process may have been faster
            account = _update(root, known, listing, report)
            if account != known:
                write_atomically(cache_file, _encode(account))
    return _manifest(root, account)


def _normalised(extensions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({"." + extension.lower().lstrip(".") for extension in extensions}))


def _cache_file(root: Path, extensions: tuple[str, ...], cache_dir: Path) -> Path:
    """One file per real folder, extensions, and version of the decoder (which decides what is readable)."""
    key = repr((_VERSION, soundfile.__libsndfile_version__, str(root.resolve()), extensions))
    return cache_dir / f"manifest-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _update(root: Path, known: _Account, listing: Listing, report: Callable[[str], None]) -> _Account:
    """Brings an account up to date by opening the files that it does not know as they are."""
    records = {record.file: record for record in known.records}
    new = [file for file in listing.files if file not in records]
    records.update(zip(new, _look_at_all(root, new, report), strict=True))
    return _Account(
        tuple(records[file] for file in listing.files), tuple(listing.unreachable), dict(listing.unsupported)
    )


def _look_at_all(root: Path, files: list[ListedFile], report: Callable[[str], None]) -> list[_Record]:
    """Opens files, and says from time to time how far it is."""
    records: list[_Record] = []
    next_report_s = time.monotonic() + _REPORT_EVERY_S
    for part in _look_at_parts(root, files):
        records += part
        if time.monotonic() > next_report_s:
            report(f"checked {len(records)} of {len(files)} audio files in {root}")
            next_report_s += _REPORT_EVERY_S
    return records


def _look_at_parts(root: Path, files: list[ListedFile]) -> Iterator[list[_Record]]:
    """Opens files one after the other, and from the first slow ones on in parallel."""
    parts = iter([files[at : at + _FILES_AT_ONCE] for at in range(0, len(files), _FILES_AT_ONCE)])
    for part in parts:
        began_s = time.monotonic()
        yield [_look_at(root, file) for file in part]
        if time.monotonic() - began_s > _SLOW_S * len(part):
            break
    pool = ThreadPoolExecutor(_NUM_THREADS)
    try:
        yield from pool.map(lambda part: [_look_at(root, file) for file in part], parts)
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at(root: Path, file: ListedFile) -> _Record:
    try:
        return _Record(file, first_look(root / file.path))
    except UnreadableAudioError as error:
        return _Record(file, None, reason=error.bad_file.reason)
    except OSError as error:  # permissions or a network that will be mended: not remembered
        return _Record(file._replace(mtime_ns=_NEVER), None, reason=f"cannot be opened ({error.strerror})")


def _manifest(root: Path, account: _Account) -> Manifest:
    folder_bytes = sum(record.file.size_bytes for record in account.records)
    entries = tuple(
        AudioEntry(*record.file, record.audio, pending(way_of(record.file.size_bytes, folder_bytes)))
        for record in account.records
        if record.audio is not None
    )
    bad = [
        BadFile(str(root / record.file.path), record.reason) for record in account.records if not record.audio
    ]
    return Manifest(
        root, entries, (*bad, *account.unreachable), account.unsupported, storage=FileStorage(root)
    )


def _encode(account: _Account) -> bytes:
    return json.dumps(
        {
            "files": [[*record.file, record.audio or record.reason] for record in account.records],
            "unreachable": account.unreachable,
            "unsupported": account.unsupported,
        }
    ).encode()


def _read_account(cache_file: Path) -> _Account:
    """Reads a cache file; one that cannot be read counts as empty."""
    try:
        content = json.loads(cache_file.read_bytes())
        return _Account(
            tuple(_decode_record(*row) for row in content["files"]),
            tuple(BadFile(*row) for row in content["unreachable"]),
            content["unsupported"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return _Account((), (), {})


def _decode_record(path: str, size_bytes: int, mtime_ns: int, found: str | list[Any]) -> _Record:
    file = ListedFile(path, size_bytes, mtime_ns)
    if isinstance(found, str):
        return _Record(file, None, reason=found)
    return _Record(file, AudioInfo(*found))

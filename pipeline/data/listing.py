"""Finding audio files below a folder: names, sizes and times, without opening any."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.data import UNSUPPORTED_EXTENSIONS
from pipeline.data.bad_files import BadFile


class ListedFile(NamedTuple):
    """A file by its path relative to the listed folder, with what tells whether it has changed since."""

    path: str
    size_bytes: int
    mtime_ns: int


@dataclass
class Listing:
    """Audio files below a folder, sorted by path, and what could not be taken in."""

    files: list[ListedFile] = field(default_factory=list)
    unreachable: list[BadFile] = field(default_factory=list)
    unsupported: Counter[str] = field(default_factory=Counter)


def list_audio(root: Path, extensions: tuple[str, ...]) -> Listing:
    """Lists audio files by extension, whatever its case, in all folders below `root`.

    Symbolic links are followed. Each real folder is entered once and each linked file taken once, so that
    loops end and a second way to the same audio adds nothing; real names come before links. Hidden names
    (`.x`, `._x`) are passed over. Folders and links that lead nowhere are listed as unreachable; audio that
    libsndfile does not read is counted by its extension.

    Args:
        root: Folder to look through.
        extensions: Lower-case extensions with the dot.
    """
    listing = Listing()
    seen: set[tuple[int, int]] = set()
    links: list[os.DirEntry[str]] = []
    for entry in _walk(root, listing.unreachable):
        extension = os.path.splitext(entry.name)[1].lower()
        if extension in UNSUPPORTED_EXTENSIONS and extension not in extensions:
            listing.unsupported[extension] += 1
        elif extension in extensions and entry.is_symlink():
            links.append(entry)
        elif extension in extensions:
            _take(entry, root, listing, seen)
    for entry in links:
        _take(entry, root, listing, seen)
    listing.files.sort()
    return listing


def _walk(root: Path, unreachable: list[BadFile]) -> Iterator["os.DirEntry[str]"]:
    """Yields all entries that are no folders; those of real folders first, then those of linked ones."""
    entered: set[tuple[int, int]] = set()
    folders = [os.fspath(root)]
    linked_folders: list[str] = []
    while folders or linked_folders:
        folder = folders.pop() if folders else linked_folders.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            unreachable.append(BadFile(folder, f"folder cannot be listed ({error.strerror})"))
            continue
        entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                linked_folders.append(entry.path)
            else:
                yield entry


def _take(entry: "os.DirEntry[str]", root: Path, listing: Listing, seen: set[tuple[int, int]]) -> None:
    """Adds a file to the listing; a link only if its target is not there yet."""
    try:
        status = entry.stat()
    except OSError as error:
        kind = "broken link" if entry.is_symlink() else "cannot be opened"
        listing.unreachable.append(BadFile(entry.path, f"{kind} ({error.strerror})"))
        return
    if not stat.S_ISREG(status.st_mode):  # opening a pipe can wait for ever
        listing.unreachable.append(BadFile(entry.path, "a pipe, a socket or a device, no file"))
        return
    identity = (status.st_dev, status.st_ino)
    if not (entry.is_symlink() and identity in seen):
        path = entry.path[len(os.path.join(root, "")) :]  # relpath takes longer than the stat
        listing.files.append(ListedFile(path, status.st_size, status.st_mtime_ns))
        seen.add(identity)

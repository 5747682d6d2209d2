"""Where the audio of a manifest is read from: its files, shards that they were packed into, or several places."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline.data.audio_io import AudioInfo, Waveform, read_crop
from pipeline.data.bad_files import UnreadableAudioError


class Needed(NamedTuple):
    """A file that is read from: `path` below `root`."""

    root: Path
    path: str
    num_bytes: int


class Storage(Protocol):
    """Gives parts of tracks, which it knows by their path in the manifest."""

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Reads (C, num_frames) float32, all inside the track, at its own rate.

        Raises:
            UnreadableAudioError: The track cannot be read there.
        """

    def place(self, path: str) -> str:
        """Where the track is, for messages."""

    def needs(self, files: Iterable[tuple[str, int]]) -> list[Needed]:
        """Files that are read from for some tracks, given by path and size of the original file."""

    def moved(self, home: Callable[[Path], Path]) -> "Storage":
        """The same storage after its folders were copied; `home` tells where to."""


@dataclass(frozen=True)
class FileStorage:
    """Audio files below a folder."""

    root: Path

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Decodes a part of a file, see `read_crop`."""
        return read_crop(self.root / path, start, num_frames)

    def place(self, path: str) -> str:
        """The file."""
        return str(self.root / path)

    def needs(self, files: Iterable[tuple[str, int]]) -> list[Needed]:
        """The files themselves."""
        return [Needed(self.root, path, num_bytes) for path, num_bytes in files]

    def moved(self, home: Callable[[Path], Path]) -> "FileStorage":
        """The files in the copied folder."""
        return FileStorage(home(self.root))


@dataclass(frozen=True)
class FolderOf:
    """A folder of a larger storage; its tracks are known by their path below it."""

    whole: Storage
    folder: str
    """With a slash at the end."""

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Reads from the larger storage."""
        return self.whole.read(self.folder + path, info, start, num_frames)

    def place(self, path: str) -> str:
        """Where the larger storage has the track."""
        return self.whole.place(self.folder + path)

    def needs(self, files: Iterable[tuple[str, int]]) -> list[Needed]:
        """What the larger storage needs for these tracks."""
        return self.whole.needs((self.folder + path, num_bytes) for path, num_bytes in files)

    def moved(self, home: Callable[[Path], Path]) -> "FolderOf":
        """The folder of the moved storage."""
        return FolderOf(self.whole.moved(home), self.folder)


@dataclass(frozen=True)
class Union:
    """Several storages, each under a name that leads the path: `name/path`."""

    parts: Mapping[str, Storage]

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Reads from the storage that the path names."""
        name, _, rest = path.partition("/")
        return self.parts[name].read(rest, info, start, num_frames)

    def place(self, path: str) -> str:
        """Where the storage that the path names has the track."""
        name, _, rest = path.partition("/")
        return self.parts[name].place(rest)

    def needs(self, files: Iterable[tuple[str, int]]) -> list[Needed]:
        """What the storages need for their tracks."""
        by_name: dict[str, list[tuple[str, int]]] = {name: [] for name in self.parts}
        for path, num_bytes in files:
            name, _, rest = path.partition("/")
            by_name[name].append((rest, num_bytes))
        return [needed for name, own in by_name.items() for needed in self.parts[name].needs(own)]

    def moved(self, home: Callable[[Path], Path]) -> "Union":
        """All of them moved."""
        return Union({name: storage.moved(home) for name, storage in self.parts.items()})


@dataclass(frozen=True)
class WithFallback:
    """Copies that may vanish, and the originals behind them."""

    copies: Storage
    originals: Storage

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Reads from the copy, or from the original where that fails."""
        try:
            return self.copies.read(path, info, start, num_frames)
        except UnreadableAudioError:
            return self.originals.read(path, info, start, num_frames)

    def place(self, path: str) -> str:
        """The original."""
        return self.originals.place(path)

    def needs(self, files: Iterable[tuple[str, int]]) -> list[Needed]:
        """What the originals need."""
        return self.originals.needs(files)

    def moved(self, home: Callable[[Path], Path]) -> Storage:
        """The originals moved."""
        return self.originals.moved(home)

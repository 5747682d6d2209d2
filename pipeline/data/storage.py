"""Where the audio of a manifest is read from: its files, shards that they were packed into, or several places."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.data.audio_io import AudioInfo, Waveform, read_crop


class Storage(Protocol):
    """Gives parts of tracks, which it knows by their path in the manifest."""

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Reads (C, num_frames) float32, all inside the track, at its own rate.

        Raises:
            UnreadableAudioError: The track cannot be read there.
        """

    def place(self, path: str) -> str:
        """Where the track is, for messages."""


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

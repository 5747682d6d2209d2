"""Reading a pack: crops straight from memory-mapped shards, each block checked when it is first used."""

import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.audio_io import AudioInfo, Waveform
from pipeline.data.bad_files import BadFile, UnreadableAudioError
from pipeline.data.manifest import Manifest
from pipeline.data.pack.layout import (
    BLOCK_BYTES,
    CHECKSUM,
    INDEX,
    SAMPLE,
    Track,
    checksums_bytes,
    decode_index,
    shard_file,
)
from pipeline.data.sample_form import from_pcm16
from pipeline.data.storage import Needed
from pipeline.errors import DataError


class _OpenShard(NamedTuple):
    """A shard in memory, as one process sees it."""

    samples: NDArray[np.int16]
    content: NDArray[np.uint8]
    checksums: NDArray[np.uint32]
    is_checked: NDArray[np.bool_]


class PackedStorage:
    """The shards of a pack. Each process maps a shard when it first reads from it."""

    def __init__(self, folder: Path, shard_bytes: tuple[int, ...], tracks: Iterable[Track]) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._places: Mapping[str, tuple[int, int]] = {
            track.entry.path: (track.shard, track.offset_bytes) for track in tracks
        }
        self._open: dict[int, _OpenShard] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Travels to another process without what is mapped here."""
        return self.__dict__ | {"_open": {}}

    def needs(self, files: Iterable[tuple[str, int]]) -> list[Needed]:
        """The shards that hold some tracks, and their checksums."""
        sizes = {
            number: self._shard_bytes[number]
            for number in sorted({self._places[path][0] for path, _ in files})
        }
        return [
            Needed(self._folder, shard_file(Path(), number, kind).name, num_bytes)
            for number, size in sizes.items()
            for kind, num_bytes in (("pcm", size), ("crc", checksums_bytes(size)))
        ]

    def moved(self, home: Callable[[Path], Path]) -> "PackedStorage":
        """The same shards in the copied folder."""
        moved = PackedStorage(home(self._folder), self._shard_bytes, ())
        moved._places = self._places
        return moved

    def read(self, path: str, info: AudioInfo, start: int, num_frames: int) -> Waveform:
        """Reads a part of a track.

        Raises:
            UnreadableAudioError: The shard is missing, has another length, or a block of it is damaged; the shard
                and the track are named.
        """
        number, offset = self._places[path]
        shard = self._open.get(number) or self._map(number, path)
        first = offset // SAMPLE.itemsize + start * info.channels
        end = first + num_frames * info.channels
        first_block = first * SAMPLE.itemsize // BLOCK_BYTES
        blocks = slice(first_block, -(-end * SAMPLE.itemsize // BLOCK_BYTES))
        if not shard.is_checked[blocks].all():
            self._check(shard, blocks, path)
        return from_pcm16(shard.samples[first:end].reshape(num_frames, info.channels))

    def place(self, path: str) -> str:
        """The shard and the track in it."""
        return f"{shard_file(self._folder, self._places[path][0], 'pcm')} (track {path})"

    def _map(self, number: int, path: str) -> _OpenShard:
        try:
            mapped = [
                np.memmap(shard_file(self._folder, number, extension), dtype=kind, mode="r")
                for extension, kind in (("pcm", SAMPLE), ("crc", CHECKSUM))
            ]
        except (OSError, ValueError) as error:
            raise UnreadableAudioError(self.place(path), f"cannot be opened ({error})") from error
        samples, checksums = (np.asarray(array) for array in mapped)
        expected = (self._shard_bytes[number], checksums_bytes(self._shard_bytes[number]))
        if (samples.nbytes, checksums.nbytes) != expected:
            raise UnreadableAudioError(
                self.place(path), f"{samples.nbytes} of {expected[0]} bytes are there; pack again"
            )
        opened = _OpenShard(
            samples, samples.view(np.uint8), checksums, np.zeros(len(checksums), dtype=np.bool_)
        )
        self._open[number] = opened
        return opened

    def _check(self, shard: _OpenShard, blocks: slice, path: str) -> None:
        for block in range(blocks.start, blocks.stop):
            if shard.is_checked[block]:
                continue
            at = block * BLOCK_BYTES
            if zlib.crc32(shard.content[at : at + BLOCK_BYTES].data) != shard.checksums[block]:
                raise UnreadableAudioError(
                    self.place(path),
                    f"damaged between bytes {at} and {at + BLOCK_BYTES} (the checksum differs); delete the shard and "
                    "pack again",
                )
            shard.is_checked[block] = True


def is_pack(folder: Path) -> bool:
    """Whether a folder holds a pack."""
    return (folder / INDEX).is_file()


def open_pack(folder: Path) -> Manifest:
    """Returns the manifest of the packed audio, the same as that of its originals but for where they are read from.

    Raises:
        DataError: The index cannot be read.
    """
    try:
        index = decode_index((folder / INDEX).read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / INDEX}: cannot be read as the index of packed audio ({error}); pack again"
        ) from error
    return Manifest(
        folder,
        tuple(track.entry for track in index.tracks),
        tuple(
            BadFile(str(folder / bad.path), f"left out when it was packed: {bad.reason}") for bad in index.bad
        ),
        index.unsupported,
        storage=PackedStorage(folder, index.shard_bytes, index.tracks),
    )

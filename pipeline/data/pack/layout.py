"""How a pack is laid out in its folder, and which track goes into which shard. Needs no torch.

pack.json          all tracks with their place, written when every shard is there
shard-00000.pcm    int16 little-endian, (frames, channels), one track after the other
shard-00000.crc    uint32 little-endian, the CRC-32 of every block of BLOCK_BYTES
shard-00000.json   the tracks of the shard, written when its other files are complete
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.audio_io import AudioInfo
from pipeline.data.bad_files import BadFile
from pipeline.data.manifest import AudioEntry, Manifest

VERSION = 1
INDEX = "pack.json"
SAMPLE = np.dtype("<i2")
CHECKSUM = np.dtype("<u4")
BLOCK_BYTES = 1 << 15
FULL_SCALE = 32768.0


class Track(NamedTuple):
    """A packed track: what is known about its file, and where its samples begin."""

    entry: AudioEntry
    shard: int
    offset_bytes: int
    num_rounded: int
    """Samples that 16 bits do not hold exactly."""
    num_clipped: int
    """Samples beyond full scale."""

    @property
    def num_bytes(self) -> int:
        """Length in the shard."""
        return self.entry.audio.num_frames * self.entry.audio.channels * SAMPLE.itemsize


@dataclass(frozen=True)
class PlannedShard:
    """Which tracks a shard holds."""

    number: int
    entries: tuple[AudioEntry, ...]

    @property
    def digest(self) -> str:
        """Equal if the same audio under the same names is to be packed."""
        lines = (
            f"{entry.path}\0{entry.size_bytes}\0{entry.audio}\0{entry.content}" for entry in self.entries
        )
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


class Shard(NamedTuple):
    """A complete shard."""

    digest: str
    num_bytes: int
    tracks: tuple[Track, ...]
    bad: tuple[BadFile, ...]
    """Tracks that could not be decoded to their end, by relative path."""


def plan(manifest: Manifest, shard_bytes: int) -> list[PlannedShard]:
    """Divides the tracks, in their order, into shards that end with the track that reaches `shard_bytes`."""
    shards: list[PlannedShard] = []
    gathered: list[AudioEntry] = []
    size = 0
    for entry in manifest.entries:
        gathered.append(entry)
        size += entry.audio.num_frames * entry.audio.channels * SAMPLE.itemsize
        if size >= shard_bytes:
            shards.append(PlannedShard(len(shards), tuple(gathered)))
            gathered, size = [], 0
    return [*shards, PlannedShard(len(shards), tuple(gathered))] if gathered else shards


def shard_file(folder: Path, number: int, extension: str) -> Path:
    """Place of one of a shard's three files: pcm, crc, json."""
    return folder / f"shard-{number:05d}.{extension}"


def write_whole(path: Path, content: bytes) -> None:
    """Writes a small file that is seen complete or not at all; others may write the same at the same time.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}")
    with unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Writes the record of a complete shard.

    Raises:
        OSError: It cannot be written.
    """
    record = {
        "version": VERSION,
        "digest": shard.digest,
        "bytes": shard.num_bytes,
        "tracks": [_row(track) for track in shard.tracks],
        "bad": shard.bad,
    }
    write_whole(shard_file(folder, number, "json"), json.dumps(record).encode())


def read_shard(folder: Path, planned: PlannedShard) -> Shard | None:
    """Returns a shard that is complete and holds what is planned; None if it is to be packed."""
    try:
        record = json.loads(shard_file(folder, planned.number, "json").read_bytes())
        if record["version"] != VERSION or record["digest"] != planned.digest:
            return None
        if shard_file(folder, planned.number, "pcm").stat().st_size != record["bytes"]:
            return None
        if shard_file(folder, planned.number, "crc").stat().st_size != checksums_bytes(record["bytes"]):
            return None
        tracks = tuple(_track(row) for row in record["tracks"])
        bad = tuple(BadFile(*row) for row in record["bad"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Shard(record["digest"], record["bytes"], tracks, bad)


def checksums_bytes(num_bytes: int) -> int:
    """Size of the checksums of a shard of `num_bytes`."""
    return -(-num_bytes // BLOCK_BYTES) * CHECKSUM.itemsize


def encode_index(source: Manifest, shards: Iterable[Shard]) -> bytes:
    """Returns the content of `pack.json`.

    Args:
        source: What was packed.
        shards: All shards in their order.
    """
    shards = tuple(shards)
    bad = [BadFile(os.path.relpath(bad.path, source.root), bad.reason) for bad in source.bad_files]
    return json.dumps(
        {
            "version": VERSION,
            "source": str(source.root),
            "shard_bytes": [shard.num_bytes for shard in shards],
            "tracks": [_row(track) for shard in shards for track in shard.tracks],
            "bad": [*bad, *(found for shard in shards for found in shard.bad)],
            "unsupported": dict(source.unsupported),
        }
    ).encode()


class Index(NamedTuple):
    """The content of `pack.json`."""

    shard_bytes: tuple[int, ...]
    tracks: tuple[Track, ...]
    bad: tuple[BadFile, ...]
    unsupported: dict[str, int]


def decode_index(content: bytes) -> Index:
    """Reads the content of `pack.json`.

    Raises:
        ValueError, KeyError, TypeError: It is damaged, or of another version.
    """
    record = json.loads(content)
    if record["version"] != VERSION:
        raise ValueError(f"version {record['version']}, readable is {VERSION}")
    return Index(
        tuple(record["shard_bytes"]),
        tuple(_track(row) for row in record["tracks"]),
        tuple(BadFile(*row) for row in record["bad"]),
        record["unsupported"],
    )


def _row(track: Track) -> list[Any]:
    entry = track.entry
    place = (track.shard, track.offset_bytes, track.num_rounded, track.num_clipped)
    return [entry.path, entry.size_bytes, entry.mtime_ns, entry.audio, entry.content, *place]


def _track(row: list[Any]) -> Track:
    path, size_bytes, mtime_ns, audio, content, *place = row
    return Track(AudioEntry(path, size_bytes, mtime_ns, AudioInfo(*audio), content), *place)

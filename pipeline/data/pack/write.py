"""Packing: whole tracks decoded once, as 16-bit samples with checksums, shard by shard."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.data.audio_io import Waveform, read_crop
from pipeline.data.bad_files import BadFile, UnreadableAudioError
from pipeline.data.lifeline import end_with_parent
from pipeline.data.manifest import AudioEntry, Manifest
from pipeline.data.pack.layout import (
    BLOCK_BYTES,
    CHECKSUM,
    FULL_SCALE,
    INDEX,
    SAMPLE,
    PlannedShard,
    Shard,
    Track,
    encode_index,
    read_shard,
    shard_file,
    write_shard,
    write_whole,
)
from pipeline.errors import DataError

_DECODED_FRAMES = 1 << 21
_READ_BYTES = BLOCK_BYTES * 64


def quantise(waveform: Waveform) -> tuple[NDArray[np.int16], int, int]:
    """Rounds to 16 bits, q = clip(round(32768 x), -32768, 32767), without dither, so that packing repeats exactly.

    Args:
        waveform: (C, S) float32, full scale 1.0.

    Returns:
        (S, C) int16, the number of samples that were not exact, the number beyond full scale.
    """
    scaled = waveform.T * np.float32(FULL_SCALE)  # exact: a power of two
    rounded = np.clip(np.rint(scaled), -FULL_SCALE, FULL_SCALE - 1)
    num_clipped = int(np.count_nonzero(np.abs(scaled) > FULL_SCALE))
    return rounded.astype(SAMPLE), int(np.count_nonzero(rounded != scaled)), num_clipped


def pack_shard(root: Path, folder: Path, planned: PlannedShard) -> Shard:
    """Packs one shard; its record is written last, so that a shard is complete or not there.

    Args:
        root: Folder of the original audio.
        folder: Folder of the pack.
        planned: The shard.

    Raises:
        DataError: The pack cannot be written.
    """
    unfinished = folder / f".shard-{planned.number:05d}.{os.uname().nodename}-{os.getpid()}"
    try:
        with suppress(FileNotFoundError):
            shard_file(folder, planned.number, "json").unlink()
        with unfinished.open("wb") as stream:
            tracks, bad = _write_tracks(root, planned, stream)
            num_bytes = stream.tell()
            stream.flush()
            os.fsync(stream.fileno())
        write_whole(shard_file(folder, planned.number, "crc"), _checksums(unfinished))
        unfinished.replace(shard_file(folder, planned.number, "pcm"))
        shard = Shard(planned.digest, num_bytes, tuple(tracks), tuple(bad))
        write_shard(folder, planned.number, shard)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise DataError(
            f"{folder}: shard {planned.number} cannot be written ({error.strerror}); make room or choose another "
            "folder; the same command goes on with the shards that are missing"
        ) from error
    return shard


def pack_shards(
    manifest: Manifest, folder: Path, shards: Iterable[PlannedShard], num_jobs: int
) -> Iterator[tuple[PlannedShard, Shard]]:
    """Packs shards in parallel and yields each when it is complete.

    Raises:
        DataError: As `pack_shard`.
    """
    pack = partial(pack_shard, manifest.root, folder)
    shards = list(shards)
    if num_jobs == 1:
        yield from ((planned, pack(planned)) for planned in shards)
        return
    with ProcessPoolExecutor(num_jobs, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        try:
            yield from zip(shards, pool.map(pack, shards), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def finish(
    manifest: Manifest, folder: Path, shards: Iterable[PlannedShard], report: Callable[[str], None]
) -> list[Shard] | None:
    """Writes the index when all shards are there; returns them, or None if some are missing.

    Raises:
        DataError: It cannot be written.
    """
    planned = list(shards)
    found = [read_shard(folder, shard) for shard in planned]
    complete = [shard for shard in found if shard is not None]
    if len(complete) < len(planned):
        report(f"{len(complete)} of {len(planned)} shards are packed; {INDEX} comes with the last one")
        return None
    try:
        write_whole(folder / INDEX, encode_index(manifest, complete))
    except OSError as error:
        raise DataError(f"{folder / INDEX} cannot be written ({error.strerror}); make room") from error
    for path in folder.glob("shard-*"):
        if path.stem not in {f"shard-{shard.number:05d}" for shard in planned}:
            path.unlink(missing_ok=True)  # of an earlier pack of more audio
    return complete


def _write_tracks(root: Path, planned: PlannedShard, stream: IO[bytes]) -> tuple[list[Track], list[BadFile]]:
    tracks, bad = [], []
    for entry in planned.entries:
        offset = stream.tell()
        try:
            num_rounded, num_clipped = _write_track(root, entry, stream)
        except UnreadableAudioError as error:
            stream.seek(offset)
            stream.truncate()
            bad.append(BadFile(entry.path, error.bad_file.reason))
            continue
        tracks.append(Track(entry, planned.number, offset, num_rounded, num_clipped))
    return tracks, bad


def _write_track(root: Path, entry: AudioEntry, stream: IO[bytes]) -> tuple[int, int]:
    path, total = root / entry.path, entry.audio.num_frames
    num_rounded = num_clipped = 0
    for start in range(0, total, _DECODED_FRAMES):
        waveform = read_crop(path, start, min(_DECODED_FRAMES, total - start))
        if len(waveform) != entry.audio.channels:
            raise UnreadableAudioError(str(path), "changed while it was packed")
        samples, rounded, clipped = quantise(waveform)
        stream.write(samples.tobytes())
        num_rounded, num_clipped = num_rounded + rounded, num_clipped + clipped
    return num_rounded, num_clipped


def _checksums(path: Path) -> bytes:
    """CRC-32 of every block, of what is in the file now, not of what was meant to be."""
    found: list[int] = []
    with path.open("rb") as stream:
        while content := stream.read(_READ_BYTES):
            found += (
                zlib.crc32(content[at : at + BLOCK_BYTES]) for at in range(0, len(content), BLOCK_BYTES)
            )
    return np.array(found, dtype=CHECKSUM).tobytes()

"""Checking a pack whole, before a long training or after a copy."""

from pathlib import Path

from pipeline.data.bad_files import BadFile, UnreadableAudioError
from pipeline.data.pack.storage import open_pack

_READ_FRAMES = 1 << 20


def damaged_tracks(folder: Path) -> list[BadFile]:
    """Reads every track and returns those that cannot be read, with the shard and the reason.

    Raises:
        DataError: The index cannot be read.
    """
    manifest = open_pack(folder)
    damaged = []
    for entry in manifest.entries:
        try:
            for start in range(0, entry.audio.num_frames, _READ_FRAMES):
                count = min(_READ_FRAMES, entry.audio.num_frames - start)
                manifest.storage.read(entry.path, entry.audio, start, count)
        except UnreadableAudioError as error:
            damaged.append(error.bad_file)
    return damaged

"""The first look at an audio file: its header, read without a decoder where the file is in its usual form.

A file is in its usual form where its header and its size alone show that it begins as it should and ends where it
should. Of any other file nothing is said here: it is decoded, which tells what is wrong with it, if anything is.
"""

import os
from pathlib import Path

from pipeline.data.audio_io import AudioInfo, probe
from pipeline.data.headers.flac import read_flac
from pipeline.data.headers.mp3 import read_mp3
from pipeline.data.headers.vorbis import read_vorbis
from pipeline.data.headers.wav import read_wav

_HEAD_BYTES = 1 << 14
_TAIL_BYTES = 1 << 15  # most often enough for the last frame of FLAC and the last page of Ogg
_ENDS_ARE_READ = (".flac", ".ogg", ".oga")
_READERS = {b"RIFF": read_wav, b"fLaC": read_flac, b"OggS": read_vorbis}


def first_look(path: Path) -> AudioInfo:
    """Returns what a file is, by its header and its end alone if these are as usual, else as `probe` does.

    Which of the two depends on nothing but the file.

    Raises:
        UnreadableAudioError: Empty, no audio, truncated, or not finite; the reason says which.
        OSError: The file cannot be opened at all.
    """
    return read_header(path) or probe(path)


def read_header(path: Path) -> AudioInfo | None:
    """Returns what a file in its usual form says of itself; None for any other file.

    Raises:
        OSError: The file cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        _announce(descriptor, size, path.suffix.lower())
        head = os.pread(descriptor, _HEAD_BYTES, 0)
        reader = _READERS.get(head[:4]) or (read_mp3 if path.suffix.lower() == ".mp3" else None)
        return reader(descriptor, head, size) if reader else None
    finally:
        os.close(descriptor)


def _announce(descriptor: int, size: int, suffix: str) -> None:
    """Tell the system what will be read: a few bytes here and there, the end while the disk still seeks the head."""
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    if suffix in _ENDS_ARE_READ:
        os.posix_fadvise(descriptor, max(0, size - _TAIL_BYTES), 0, os.POSIX_FADV_WILLNEED)

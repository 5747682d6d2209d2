"""Headers of audio files, read without a decoder: what `probe` would say of a file in its usual form, and no more.

A file is in its usual form where its header and its size alone show that it begins as it should and ends where it
should. Of any other file nothing is said here: it is decoded, which tells what is wrong with it, if anything is.
"""

import os
from pathlib import Path

from pipeline.data.audio_io import AudioInfo
from pipeline.data.headers.flac import read_flac
from pipeline.data.headers.mp3 import read_mp3
from pipeline.data.headers.vorbis import read_vorbis
from pipeline.data.headers.wav import read_wav

_HEAD_BYTES = 1 << 14
_READERS = {b"RIFF": read_wav, b"fLaC": read_flac, b"OggS": read_vorbis}


def read_header(path: Path) -> AudioInfo | None:
    """Returns what a file in its usual form says of itself; None for any other file.

    Raises:
        OSError: The file cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(descriptor, _HEAD_BYTES, 0)
        size = os.fstat(descriptor).st_size
        reader = _READERS.get(head[:4]) or (read_mp3 if path.suffix.lower() == ".mp3" else None)
        return reader(descriptor, head, size) if reader else None
    finally:
        os.close(descriptor)

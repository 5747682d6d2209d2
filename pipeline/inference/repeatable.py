"""Takes out of an audio file what depends on when it was written, so that equal audio gives equal bytes.

libsndfile (1.2.2) stamps floating-point WAV files with the time of day and draws the serial number of Ogg streams from
it.
"""

import zlib
from pathlib import Path
from struct import Struct
from typing import IO

_CHUNK_HEADER = Struct("<4sI")
_RIFF_HEADER_BYTES = 12
_TIME_IN_PEAK_CHUNK = 4

_OGG_HEADER_BYTES = 27
_SERIAL, _CHECKSUM, _NUM_SEGMENTS = slice(14, 18), slice(22, 26), 26
_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def remove_time_of_writing(path: Path) -> None:
    """Zero the time in a WAV file's PEAK chunk and the serial number of an Ogg file; others are left alone."""
    with path.open("r+b") as file:
        magic = file.read(4)
        if magic == b"RIFF":
            _zero_peak_time(file)
        elif magic == b"OggS":
            _zero_ogg_serial(file)


def _zero_peak_time(file: IO[bytes]) -> None:
    """Walk the chunks before the audio."""
    at = _RIFF_HEADER_BYTES
    while True:
        file.seek(at)
        header = file.read(_CHUNK_HEADER.size)
        if len(header) < _CHUNK_HEADER.size:
            return
        name, length = _CHUNK_HEADER.unpack(header)
        if name == b"data":
            return
        at += _CHUNK_HEADER.size
        if name == b"PEAK":
            file.seek(at + _TIME_IN_PEAK_CHUNK)
            file.write(bytes(4))
            return
        at += length + length % 2


def _zero_ogg_serial(file: IO[bytes]) -> None:
    """Rewrite the header of every page, whose checksum covers the serial number (RFC 3533, section 6)."""
    at = 0
    while True:
        file.seek(at)
        header = bytearray(file.read(_OGG_HEADER_BYTES))
        if len(header) < _OGG_HEADER_BYTES:
            return
        segments = file.read(header[_NUM_SEGMENTS])
        body = file.read(sum(segments))
        header[_SERIAL] = header[_CHECKSUM] = bytes(4)
        header[_CHECKSUM] = _ogg_checksum(bytes(header) + segments + body)
        file.seek(at)
        file.write(header)
        at += len(header) + len(segments) + len(body)


def _ogg_checksum(page: bytes) -> bytes:
    """CRC32 as Ogg stores it: zlib's polynomial with the other bit order, and all zeros to begin and end with."""
    register = zlib.crc32(page.translate(_BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return register.to_bytes(4, "big").translate(_BITS_REVERSED)

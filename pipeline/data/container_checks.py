"""Checks that libsndfile leaves out: it plays what is left of a truncated file without a word."""

import os
from pathlib import Path
from struct import Struct
from typing import IO

_OGG_LARGEST_PAGE = 27 + 255 + 255 * 255
_OGG_GRANULE = Struct("<q")
_VORBIS_LONGEST_BLOCK = 8192
# Programs that write to a pipe cannot know the length and put a very large one: 0xFFFFFFFF (ffmpeg),
# 0x7FFFF000 (sox).
_STREAMED_BYTES = 0x7FFFF000
_SLOPPY_BYTES = 64  # headers that count themselves as audio are wrong, but harmless
_FILE_HEADER = {b"RIFF": Struct("<4sI4s"), b"FORM": Struct(">4sI4s")}
_CHUNK_HEADER = {b"RIFF": Struct("<4sI"), b"FORM": Struct(">4sI")}
_AUDIO_CHUNKS = (b"data", b"SSND")
_MP3_TAIL_BYTES = 1 << 16
_MP3_CONVINCING_FRAMES = 8  # so many headers in the right distances are no accident
_MP3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_LOW_RATE_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES_HZ = (44100, 48000, 32000)


def end_is_missing(path: Path) -> str:
    """Says what is missing at the end of a WAV, AIFF or Ogg file; nothing is an empty text.

    Raises:
        OSError: The file cannot be read.
    """
    size = os.stat(path).st_size
    with open(path, "rb") as stream:
        magic = stream.read(4)
        if magic in _FILE_HEADER:
            return _missing_in_chunks(stream, magic, size)
        if magic == b"OggS":
            return _missing_in_ogg(stream, size)
    return ""


def last_ogg_page_start(path: Path) -> int:
    """Returns a frame before which no packet of the last page of an Ogg Vorbis file is needed; 0 if none is found.

    It is where the page before the last one that completes a packet ends, less one block.

    Raises:
        OSError: The file cannot be read.

    Source: RFC 3533, section 6 (page header).
    """
    with open(path, "rb") as stream:
        stream.seek(max(0, os.stat(path).st_size - 3 * _OGG_LARGEST_PAGE))
        tail = stream.read()
    ends: list[int] = []
    page = tail.rfind(b"OggS")
    while page >= 0 and len(ends) < 2:
        (granule,) = _OGG_GRANULE.unpack_from(tail, page + 6) if page + 14 <= len(tail) else (-1,)
        if granule >= 0:  # -1: no packet ends on this page
            ends.append(granule)
        page = tail.rfind(b"OggS", 0, page)
    return max(0, ends[1] - _VORBIS_LONGEST_BLOCK) if len(ends) == 2 and ends[1] <= ends[0] else 0


def has_mp3_length_header(path: Path) -> bool:
    """Whether the first frame of an MP3 file tells the length (Xing, Info or VBRI header).

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as stream:
        tag = stream.read(10)
        if tag[:3] == b"ID3" and len(tag) == 10:  # its size has 7 bits in each of 4 bytes
            stream.seek(10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)))
        else:
            stream.seek(0)
        first_frame = stream.read(2048)
    return any(name in first_frame for name in (b"Xing", b"Info", b"VBRI"))


def last_mp3_frame_is_cut(path: Path) -> bool:
    """Whether an MP3 file ends inside a frame; the only sign of truncation where no header tells the length.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as stream:
        stream.seek(max(0, os.stat(path).st_size - _MP3_TAIL_BYTES))
        tail = stream.read()
    start = tail.find(b"\xff")
    while start >= 0:
        at, num_frames = start, 0
        while length := mp3_frame_bytes(tail[at : at + 4]):
            at, num_frames = at + length, num_frames + 1
        if num_frames >= _MP3_CONVINCING_FRAMES:
            return at > len(tail) or 0 < len(tail) - at < 4  # a whole tag is longer than a cut header
        start = tail.find(b"\xff", start + 1)
    return False


def mp3_frame_bytes(header: bytes) -> int:
    """Length of the MP3 frame that starts with these four bytes; 0 if none does.

    Source: ISO/IEC 11172-3 and 13818-3, clause 2.4.1.3, layer III.
    """
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    is_full_rate = version == 3
    kbps = (_MP3_KBPS if is_full_rate else _MP3_LOW_RATE_KBPS)[bitrate - 1]
    return (144 if is_full_rate else 72) * 1000 * kbps // mp3_rate_hz(header) + (header[2] >> 1 & 1)


def mp3_rate_hz(header: bytes) -> int:
    """Sample rate of the MP3 frame that starts with these four bytes: halved in MPEG-2, quartered in 2.5."""
    version = header[1] >> 3 & 3
    return _MP3_RATES_HZ[header[2] >> 2 & 3] >> (3 - version if version else 2)


def _missing_in_chunks(stream: IO[bytes], magic: bytes, size: int) -> str:
    """Walks the chunks of a RIFF (little-endian) or AIFF (big-endian) file to the audio."""
    chunk_header = _CHUNK_HEADER[magic]
    at = _FILE_HEADER[magic].size
    while at + chunk_header.size <= size:
        stream.seek(at)
        name, length = chunk_header.unpack(stream.read(chunk_header.size))
        at += chunk_header.size
        if name in _AUDIO_CHUNKS:
            missing = at + length - size
            if _SLOPPY_BYTES < missing and length < _STREAMED_BYTES:
                return f"{missing} of {length} bytes of audio are missing"
            return ""
        at += length + length % 2
    return "the audio chunk is missing"


def _missing_in_ogg(stream: IO[bytes], size: int) -> str:
    """Finds the last page and asks whether all of it is there."""
    tail_start = max(0, size - 2 * _OGG_LARGEST_PAGE)
    stream.seek(tail_start)
    tail = stream.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return "no Ogg page at the end"
    segments = tail[page + 27 : page + 27 + tail[page + 26]] if len(tail) > page + 26 else b""
    is_whole = (
        segments
        and len(segments) == tail[page + 26]
        and page + 27 + len(segments) + sum(segments) <= len(tail)
    )
    return "" if is_whole else "the last Ogg page is cut"

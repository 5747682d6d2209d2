"""FLAC files: what STREAMINFO says, where the frame with the last samples is in its place."""

import os
from typing import NamedTuple

from pipeline.data.audio_io import AudioInfo

_CODECS = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}
_STREAMINFO_BYTES = 34
_PICTURE_AND_ALL_BEFORE = 6
_MOST_BLOCKS = 64
_MOST_FRAME_BYTES = 1 << 20
_TAG_BYTES = 128  # ID3v1, which some programs put behind
_SYNC = b"\xff\xf8"  # of a frame of a stream of blocks of one size
_EXPLICIT_RATE_BYTES = {12: 1, 13: 2, 14: 2}
_NUM_CHANNELS = {code: code + 1 for code in range(8)} | {8: 2, 9: 2, 10: 2}  # the last ones: sides and middle


class _LastFrame(NamedTuple):
    """What the last frame of a file says, if STREAMINFO is right."""

    number: int
    num_samples: int
    channels: int


def _crc8_table() -> bytes:
    """Table of the CRC of frame headers, x^8 + x^2 + x + 1."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1) ^ (0x107 if value & 0x80 else 0)
        table.append(value)
    return bytes(table)


_CRC8 = _crc8_table()


def read_flac(descriptor: int, head: bytes, size: int) -> AudioInfo | None:
    """Returns the header of a FLAC file that reaches into its last frame; None for any other file.

    Args:
        descriptor: Of the open file.
        head: Its first bytes.
        size: Its size in bytes.

    Source: RFC 9639, sections 8 (metadata) and 9.1 (frame header).
    """
    if len(head) < 8 + _STREAMINFO_BYTES or head[4] & 0x7F or head[5:8] != b"\0\0\x22":
        return None
    least_block, most_block = int.from_bytes(head[8:10]), int.from_bytes(head[10:12])
    least_bytes, most_bytes = int.from_bytes(head[12:15]), int.from_bytes(head[15:18])
    packed = int.from_bytes(head[18:26])
    rate_hz, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    total = packed & ((1 << 36) - 1)
    if least_block != most_block or not (most_block and least_bytes and rate_hz and total):
        return None
    if bits not in _CODECS or most_bytes > _MOST_FRAME_BYTES:
        return None
    start = _audio_start(descriptor, head)
    if start is None:
        return None
    tail_start = max(start, size - most_bytes - _TAG_BYTES)
    tail = os.pread(descriptor, size - tail_start, tail_start) if tail_start < size else b""
    form = _LastFrame((total - 1) // most_block, (total - 1) % most_block + 1, channels)
    if not _has_frame(tail, form, least_bytes):
        return None
    return AudioInfo(total, rate_hz, channels, _CODECS[bits])


def _audio_start(descriptor: int, head: bytes) -> int | None:
    """Walks the blocks of metadata to the first frame."""
    at, is_last = 4, False
    for _ in range(_MOST_BLOCKS):
        block = head[at : at + 4] if at + 4 <= len(head) else os.pread(descriptor, 4, at)
        if is_last:
            return at if block[:2] == _SYNC else None
        if len(block) < 4 or block[0] & 0x7F > _PICTURE_AND_ALL_BEFORE:
            return None
        is_last = bool(block[0] & 0x80)
        at += 4 + int.from_bytes(block[1:])
    return None


def _has_frame(tail: bytes, form: _LastFrame, least_bytes: int) -> bool:
    """Whether a frame of this form begins in `tail` and may be complete there."""
    at = tail.rfind(_SYNC)
    while at >= 0:
        if len(tail) - at >= least_bytes and _is_frame(tail[at : at + 17], form):
            return True
        at = tail.rfind(_SYNC, 0, at + 1)
    return False


def _is_frame(header: bytes, form: _LastFrame) -> bool:
    code = _coded(form.number)
    end = 4 + len(code)
    if header[4:end] != code or _NUM_CHANNELS.get(header[3] >> 4) != form.channels:
        return False
    size_code, rate_code = header[2] >> 4, header[2] & 15
    if size_code in (6, 7):
        size = int.from_bytes(header[end : end + size_code - 5]) + 1
        end += size_code - 5
    elif size_code == 1:
        size = 192
    elif 2 <= size_code <= 5:
        size = 576 << (size_code - 2)
    else:
        size = 256 << (size_code - 8) if size_code else 0
    end += _EXPLICIT_RATE_BYTES.get(rate_code, 0)
    return size == form.num_samples and len(header) > end and header[end] == _crc8(header[:end])


def _coded(number: int) -> bytes:
    """The number of a frame, as UTF-8 would code it if it went up to 31 bits."""
    if number < 0x80:
        return bytes([number])
    num_more = 1
    while number >> (5 * num_more + 6):
        num_more += 1
    first = 0xFF00 >> (num_more + 1) & 0xFF | number >> 6 * num_more
    return bytes([first, *(0x80 | number >> 6 * place & 0x3F for place in reversed(range(num_more)))])


def _crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc = _CRC8[crc ^ byte]
    return crc

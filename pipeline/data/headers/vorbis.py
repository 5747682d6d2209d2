"""Ogg Vorbis files: one stream, from its first sample to a last page that ends the file."""

import os
import zlib
from struct import Struct
from typing import NamedTuple

from pipeline.data.audio_io import AudioInfo

_PAGE = Struct("<4sBBq4s4s4sB")
_IDENTIFICATION = Struct("<7sIBIiiiBB")
_CHECKSUM = slice(22, 26)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_HEADERS_BYTES = 1 << 17  # with a picture in the comments they are longer, and the file is decoded
_TAIL_BYTES = 1 << 13  # longer than most pages
_LONGEST_TAIL_BYTES = 27 + 255 + 255 * 255
_MODE_BITS, _MODE_COUNT_BITS = 41, 6
_SETUP_TAIL_BYTES = 64
_MOST_MODES = 2  # no known encoder has more


class _Page(NamedTuple):
    """A page of an Ogg stream."""

    flags: int
    granule: int
    serial: bytes
    lacing: bytes
    start: int
    """Of its content."""

    @property
    def end(self) -> int:
        """Where the next page begins."""
        return self.start + sum(self.lacing)


def read_vorbis(descriptor: int, head: bytes, size: int) -> AudioInfo | None:
    """Returns the header of an Ogg Vorbis file of one whole stream from sample 0; None for any other file.

    Args:
        descriptor: Of the open file.
        head: Its first bytes.
        size: Its size in bytes.

    Source: RFC 3533, section 6 (pages); Vorbis I specification, sections 4.2 (headers) and A.2 (sample positions).
    """
    first = _page(head, 0)
    if first is None or first.flags != _FIRST or first.lacing != bytes([_IDENTIFICATION.size]):
        return None
    magic, version, channels, rate_hz, *_, blocks, framing = _IDENTIFICATION.unpack_from(head, first.start)
    if magic != b"\x01vorbis" or version or not (channels and rate_hz and framing & 1):
        return None
    begins = _begins_at_0(head, first, blocks)
    if begins is None and size > len(head):
        begins = _begins_at_0(os.pread(descriptor, _HEADERS_BYTES, 0), first, blocks)
    num_frames = _last_position(descriptor, size, first.serial) if begins else 0
    most_frames = size << (blocks >> 4) >> 1  # half a long block for every byte
    return AudioInfo(num_frames, rate_hz, channels, "VORBIS") if 0 < num_frames <= most_frames else None


def _page(content: bytes, at: int) -> _Page | None:
    """The page at a place; None if none is there, or not all of it as it was written."""
    if at + _PAGE.size > len(content):
        return None
    magic, version, flags, granule, serial, _, checksum, num_segments = _PAGE.unpack_from(content, at)
    start = at + _PAGE.size + num_segments
    page = _Page(flags, granule, serial, content[start - num_segments : start], start)
    if magic != b"OggS" or version or page.end > len(content):
        return None
    return page if _checksum(content[at : page.end]) == checksum else None


def _checksum(page: bytes) -> bytes:
    """The CRC of a page: zlib's polynomial, but from the highest bit to the lowest, from 0, and not inverted."""
    bare = bytearray(page)
    bare[_CHECKSUM] = bytes(4)
    crc = zlib.crc32(bare.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "little").translate(_REVERSED)[::-1]


def _begins_at_0(head: bytes, first: _Page, blocks: int) -> bool | None:
    """Whether the first page of audio ends where its blocks end that are counted from 0; None: `head` is too short."""
    at, num_packets, setup = first.end, 0, b""
    while num_packets < 2:  # comments, and what the decoder is set up with
        page = _page(head, at)
        if page is None:
            return None
        if page.serial != first.serial or page.flags & ~_CONTINUED:
            return False
        place = page.start
        for length in page.lacing:
            if num_packets == 1:
                setup += head[place : place + length]
            place += length
            num_packets += length < 255
        at = page.end
    page, is_long = _page(head, at), _modes(setup)
    if page is None:
        return None
    if num_packets > 2 or page.serial != first.serial or page.flags or not is_long:
        return False
    sizes = 1 << (blocks & 15), 1 << (blocks >> 4)
    packets = [sizes[is_long[_mode(packet, is_long)]] for packet in _packets(head, page)]
    # Half of each of two blocks that overlap.
    return page.granule == sum(one + other for one, other in zip(packets, packets[1:], strict=False)) // 4


def _modes(setup: bytes) -> list[int]:
    """The flag of long blocks of each mode, from the end of the setup header, where they are; empty if not clear.

    A mistake does no harm: the blocks then do not end where the page says.
    """
    bits = int.from_bytes(setup[-_SETUP_TAIL_BYTES:], "little")
    at, flags, found = bits.bit_length() - 1, list[int](), list[int]()
    while len(flags) < _MOST_MODES:
        at -= _MODE_BITS
        mode = bits >> max(0, at) & ((1 << _MODE_BITS) - 1)
        if at < _MODE_COUNT_BITS or mode >> 1 & 0xFFFFFFFF:  # window and transform are 0
            break
        flags.insert(0, mode & 1)
        if bits >> (at - _MODE_COUNT_BITS) & 63 == len(flags) - 1:
            found = list(flags)
    return found


def _mode(first_byte: int, modes: list[int]) -> int:
    """Mode of a packet of audio; the bit before it is 0."""
    return first_byte >> 1 & (len(modes) - 1)


def _packets(content: bytes, page: _Page) -> list[int]:
    """The first byte of every packet that ends on a page; an empty packet, which is no block, has none."""
    found, place, begin = list[int](), page.start, page.start
    for length in page.lacing:
        place += length
        if length < 255:
            found += content[begin : min(place, begin + 1)]
            begin = place
    return found


def _last_position(descriptor: int, size: int, serial: bytes) -> int:
    """The position after the last sample, which the last page tells; 0 if no last page of the stream ends the file."""
    for num_bytes in (_TAIL_BYTES, _LONGEST_TAIL_BYTES):
        tail = os.pread(descriptor, num_bytes, max(0, size - num_bytes))
        at = tail.rfind(b"OggS")
        if at >= 0:
            page = _page(tail, at)
            is_last = page is not None and page.end == len(tail) and page.flags & ~_CONTINUED == _LAST
            return page.granule if page is not None and is_last and page.serial == serial else 0
    return 0

"""MP3 files: what the first frame tells, where an encoder has written length and size into it (Xing, Info)."""

import os
from typing import NamedTuple

from pipeline.data.audio_io import AudioInfo
from pipeline.data.container_checks import mp3_frame_bytes, mp3_rate_hz

_ID3_BYTES, _ID3V1_BYTES = 10, 128
_FRAME_HEAD_BYTES = 2048  # more than the longest frame
_MPEG_1, _MONO = 3, 3
_FRAMES_AND_BYTES, _TABLE, _QUALITY = 3, 4, 8
_TABLE_BYTES = 100
_LOWEST_BITRATE = 0x10
_DECODER_DELAY = 529  # samples of every decoder of layer III


class _Told(NamedTuple):
    """Number of frames, the bytes of all of them, and the samples that the encoder added before and after."""

    num_frames: int
    num_bytes: int
    num_added: int
    num_padding: int


def read_mp3(descriptor: int, head: bytes, size: int) -> AudioInfo | None:
    """Returns the header of an MP3 file that tells its length and is as long as it tells; None for any other file.

    The length is that without the samples that the encoder says it has added, as the decoder counts.

    Args:
        descriptor: Of the open file.
        head: Its first bytes.
        size: Its size in bytes.

    Source: ISO/IEC 11172-3 and 13818-3, clause 2.4.1; the header of LAME, "Mp3 Info Tag rev 1".
    """
    start = 0
    if head[:3] == b"ID3":  # its size has 7 bits in each of 4 bytes
        if len(head) < _ID3_BYTES or head[5] & 0x10:  # a footer
            return None
        sizes = zip(head[6:10], (21, 14, 7, 0), strict=True)
        start = _ID3_BYTES + sum(byte << shift for byte, shift in sizes)
    frame = head[start : start + _FRAME_HEAD_BYTES]
    if len(frame) < _FRAME_HEAD_BYTES:
        frame = os.pread(descriptor, _FRAME_HEAD_BYTES, start)
    length = mp3_frame_bytes(frame[:4])
    if not length or len(frame) < length + 4 or not _are_alike(frame[:4], frame[length : length + 4]):
        return None
    is_mpeg_1, is_mono = frame[1] >> 3 & 3 == _MPEG_1, frame[3] >> 6 == _MONO
    told = _told(frame[4:length], (17 if is_mono else 32) if is_mpeg_1 else (9 if is_mono else 17))
    if told is None or not _ends_at(descriptor, start + told.num_bytes, size):
        return None
    if told.num_frames * _least_frame_bytes(frame) > told.num_bytes:
        return None
    # What the decoder adds at the beginning it takes from the padding, which is shorter in no file of an encoder.
    num_cut = told.num_added + max(told.num_padding, _DECODER_DELAY)
    num_samples = told.num_frames * (1152 if is_mpeg_1 else 576) - num_cut
    if num_samples <= 0:
        return None
    return AudioInfo(num_samples, mp3_rate_hz(frame[:4]), 1 if is_mono else 2, "MPEG_LAYER_III")


def _are_alike(one: bytes, other: bytes) -> bool:
    """Whether two frames without CRC have the same version, layer and rate, and both one channel or both two."""
    return (
        one[1] & 1 == 1
        and one[1] == other[1]
        and one[2] & 0x0C == other[2] & 0x0C
        and (one[3] >> 6 == _MONO) == (other[3] >> 6 == _MONO)
        and mp3_frame_bytes(other) > 0
    )


def _least_frame_bytes(frame: bytes) -> int:
    """Length of a frame of the lowest bit rate at the version and sample rate of this one."""
    return mp3_frame_bytes(bytes([frame[0], frame[1], _LOWEST_BITRATE | frame[2] & 0x0C, frame[3]]))


def _told(body: bytes, offset: int) -> _Told | None:
    """What the first frame says after the `offset` bytes of its side information, which are empty."""
    if body[offset : offset + 4] not in (b"Xing", b"Info") or any(body[:offset]):
        return None
    flags = int.from_bytes(body[offset + 4 : offset + 8])
    if flags & _FRAMES_AND_BYTES != _FRAMES_AND_BYTES or flags >> 4:
        return None
    num_frames, num_bytes = (int.from_bytes(body[offset + at : offset + at + 4]) for at in (8, 12))
    encoder = offset + 16 + (_TABLE_BYTES if flags & _TABLE else 0) + (4 if flags & _QUALITY else 0)
    delays = int.from_bytes(body[encoder + 21 : encoder + 24])
    if len(body) < encoder + 24 or not body[encoder] or not num_frames:
        return None
    return _Told(num_frames, num_bytes, delays >> 12, delays & 0xFFF)


def _ends_at(descriptor: int, end: int, size: int) -> bool:
    """Whether nothing comes after `end`, or a tag."""
    return end == size or (end + _ID3V1_BYTES == size and os.pread(descriptor, 3, end) == b"TAG")

"""WAV files of integers: whatever their samples are, they decode."""

from struct import Struct

from pipeline.data.audio_io import AudioInfo

_CHUNK = Struct("<4sI")
_FORMAT = Struct("<HHIIHH")
_EXTENSION = Struct("<HHI16s")
_PCM, _EXTENSIBLE = 1, 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_CODECS = {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24"}
_FACT_BYTES = 4
_MOST_CHANNELS, _HIGHEST_RATE_HZ = 256, 1_000_000


def read_wav(descriptor: int, head: bytes, size: int) -> AudioInfo | None:
    """Returns the header of a WAV file whose last chunk is its audio, all of it; None for any other file.

    Args:
        descriptor: Of the open file.
        head: Its first bytes.
        size: Its size in bytes.

    Source: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0, chapter 3.
    """
    if head[8:12] != b"WAVE":
        return None
    at, form = 12, None
    while at + _CHUNK.size <= len(head):
        name, length = _CHUNK.unpack_from(head, at)
        at += _CHUNK.size
        if name == b"data":
            return _info(form, length) if form is not None and at + length == size else None
        if name == b"fmt " and form is None and at + length <= len(head):
            form = head[at : at + length]
        elif not _is_passed_over(name, head[at : at + length]):
            return None
        at += length + length % 2
    return None


def _is_passed_over(name: bytes, content: bytes) -> bool:
    """Whether the decoder finds the chunk behind this one: in some of a wrong form it loses its way."""
    if name != b"LIST":
        return name == b"JUNK" or (name == b"fact" and len(content) >= _FACT_BYTES)
    at = 4
    while at + _CHUNK.size <= len(content) and content[at : at + 1] == b"I":  # as all names of texts begin
        _, length = _CHUNK.unpack_from(content, at)
        at += _CHUNK.size + length + length % 2
    return content[:4] == b"INFO" and at == len(content)


def _info(form: bytes, num_bytes: int) -> AudioInfo | None:
    if len(form) < _FORMAT.size:
        return None
    tag, channels, rate_hz, _, frame_bytes, bits = _FORMAT.unpack_from(form)
    if tag == _EXTENSIBLE and len(form) == _FORMAT.size + _EXTENSION.size:
        _, valid_bits, _, guid = _EXTENSION.unpack_from(form, _FORMAT.size)
        if valid_bits != bits or guid != _PCM_GUID:
            return None
    elif tag != _PCM:
        return None
    is_usual = bits in _CODECS and 0 < channels <= _MOST_CHANNELS and frame_bytes == channels * bits // 8
    if not (is_usual and 0 < rate_hz <= _HIGHEST_RATE_HZ and num_bytes) or num_bytes % frame_bytes:
        return None
    return AudioInfo(num_bytes // frame_bytes, rate_hz, channels, _CODECS[bits])

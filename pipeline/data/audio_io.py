"""Reading audio files: headers that can be trusted, and crops that equal the same part of the whole file."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from pipeline.data.bad_files import UnreadableAudioError
from pipeline.data.container_checks import (
    end_is_missing,
    has_mp3_length_header,
    last_mp3_frame_is_cut,
    last_ogg_page_start,
)
from pipeline.data.decoder_noise import filtered_stderr
from pipeline.data.resample import input_span, resample_span, resampled_length
from pipeline.data.sample_form import convert_channels, from_pcm16

Waveform = NDArray[np.float32]

# A decoder that starts in mid-file lacks what earlier frames left behind: MP3 frames borrow bits from up to 9
# predecessors at the lowest bit rates of MPEG-1, from up to 85 at the low sample rates, Vorbis blocks overlap by up
# to 4096. So many frames are decoded before a crop and dropped (libmpg123 itself adds 4 of MP3 after a seek).
_PREROLL_FRAMES = {"MPEG_LAYER_III": 7 * 1152, "VORBIS": 4096}
_MPEG_1_RATES_HZ = (32000, 44100, 48000)
_LOW_RATE_MP3_PREROLL_FRAMES = 51200
# A seek into the last Ogg page of a Vorbis file is off by what its end trims away (libsndfile 1.2.2). Crops
# near the end are decoded from before that page; the longest that encoders write has 255 packets of 1024 frames.
_VORBIS_TAIL_FRAMES = 255 * 1024
# Vorbis and Opus files order their channels L C R ..., everything else as WAV does, L R C LFE ...
VORBIS_TO_WAV_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
# Where a handle that has decoded one part may give another part wrong, or not at all.
_REOPENED_CODECS = ("MPEG_LAYER_III", "VORBIS", "OPUS")
_CHECKED_FRAMES = 1024
_LONGEST_FRAMES = 1 << 40  # FLAC from a pipe claims 2**63 - 1
_BLOCK_FRAMES = 1 << 16


class AudioInfo(NamedTuple):
    """What the header of a usable file says; `num_frames` can all be decoded."""

    num_frames: int
    sample_rate_hz: int
    channels: int
    codec: str


class _Reader(soundfile.SoundFile):
    """A sound file that is opened for one crop.

    `seekable` is false so that soundfile does not seek after each read to correct a write position: needless
    here, and it makes MP3 and Opus decoders start anew.
    """

    def seekable(self) -> bool:
        """Says no, see above; `seek` works all the same."""
        return False


def probe(path: Path) -> AudioInfo:
    """Reads a header and does not believe it: start, middle and end must decode to finite samples.

    Raises:
        UnreadableAudioError: Empty, no audio, truncated, or not finite; the reason says which.
        OSError: The file cannot be opened at all.
    """
    if os.stat(path).st_size == 0:
        raise UnreadableAudioError(str(path), "empty file (0 bytes)")
    with _quiet(path):
        with _open(path) as reader:
            info = _checked_header(path, reader)
            if info.codec not in _REOPENED_CODECS and _decodes(path, reader, info):
                return info
        if info.codec == "MPEG_LAYER_III" and not has_mp3_length_header(path):
            if last_mp3_frame_is_cut(path):
                raise UnreadableAudioError(str(path), "truncated: the last MP3 frame is cut")
            info = info._replace(num_frames=_decodable_frames(path, info.num_frames))
        for start, num_frames in _checked_parts(info):
            read_crop(path, start, num_frames)
    return info


def read_crop(path: Path, start: int, num_frames: int) -> Waveform:
    """Decodes a part of a file, sample for sample what decoding the whole file would give.

    Exact for WAV, FLAC and the like; within 1e-6 for MP3, Vorbis and Opus, except Opus below about 20 kbit/s,
    whose speech coder carries its state along (about -35 dB). The file is opened per crop: kept-open Ogg
    handles return wrong samples. Channels come in WAV order.

    Args:
        path: Audio file.
        start: First frame.
        num_frames: Number of frames, all inside the file.

    Returns:
        (C, num_frames) float32, full scale 1.0.

    Raises:
        UnreadableAudioError: The file cannot be opened, decodes to fewer frames, or to values that are not
            finite.
    """
    try:
        codec, frames = _decode(path, start, num_frames)
    except OSError as error:
        raise UnreadableAudioError(str(path), f"cannot be opened ({error.strerror})") from error
    _check_frames(path, start, num_frames, frames)
    if frames.dtype == np.int16:
        return from_pcm16(frames)
    order = VORBIS_TO_WAV_ORDER.get(frames.shape[1]) if codec in ("VORBIS", "OPUS") else None
    return np.ascontiguousarray(frames.T if order is None else frames.T[list(order)])


def load_segment(
    path: Path, info: AudioInfo, start: int, num_samples: int, *, sample_rate_hz: int, channels: int
) -> Waveform:
    """Reads a segment of a file, see `convert_segment`."""
    return convert_segment(
        partial(read_crop, path), info, start, num_samples, sample_rate_hz=sample_rate_hz, channels=channels
    )


def convert_segment(
    read: Callable[[int, int], Waveform],
    info: AudioInfo,
    start: int,
    num_samples: int,
    *,
    sample_rate_hz: int,
    channels: int,
) -> Waveform:
    """Reads a segment at the wanted rate and channel count; equals the same part of the whole converted track.

    Args:
        read: Gives (C, n) float32 from a first frame and a number n of frames, all inside the track.
        info: Length, rate and channels of the track.
        start: First sample, counted at `sample_rate_hz`.
        num_samples: Length in samples at `sample_rate_hz`; what lies after the end of the track is silence.
        sample_rate_hz: Wanted sample rate.
        channels: Wanted channels, see `convert_channels`.

    Returns:
        (channels, num_samples) float32.

    Raises:
        UnreadableAudioError: As `read_crop`.
    """
    first, end = input_span(start, num_samples, info.sample_rate_hz, sample_rate_hz)
    first, end = max(0, first), min(end, info.num_frames)
    if first >= end:
        return np.zeros((channels, num_samples), dtype=np.float32)
    crop = read(first, end - first)
    if channels < info.channels:
        crop = convert_channels(crop, channels)  # before resampling where that saves work
    segment = resample_span(crop, first, start, num_samples, info.sample_rate_hz, sample_rate_hz)
    file_end = resampled_length(info.num_frames, info.sample_rate_hz, sample_rate_hz) - start
    segment[:, max(0, file_end) :] = 0.0  # where the filter rings on
    return convert_channels(segment, channels)


def _checked_header(path: Path, reader: _Reader) -> AudioInfo:
    info = AudioInfo(reader.frames, reader.samplerate, reader.channels, reader.subtype)
    if info.num_frames > _LONGEST_FRAMES:
        raise UnreadableAudioError(
            str(path), "the header does not tell the length (streamed); encode it again"
        )
    missing = end_is_missing(path)
    if missing:
        raise UnreadableAudioError(str(path), f"truncated: {missing}")
    if info.num_frames <= 0:
        raise UnreadableAudioError(str(path), "holds no audio (0 frames)")
    return info


def _decodes(path: Path, reader: _Reader, info: AudioInfo) -> bool:
    """Whether an open file decodes where it is checked; what does not is read anew, to say why."""
    try:
        for start, num_frames in _checked_parts(info):
            _check_frames(path, start, num_frames, _seek_and_read(path, reader, start, num_frames))
    except (soundfile.LibsndfileError, UnreadableAudioError):
        return False
    return True


def _checked_parts(info: AudioInfo) -> Iterator[tuple[int, int]]:
    """First frame and number of frames of the start, the middle and the end."""
    checked = min(_CHECKED_FRAMES, info.num_frames)
    for start in (0, (info.num_frames - checked) // 2, info.num_frames - checked):
        yield start, checked


def _check_frames(path: Path, start: int, num_frames: int, frames: NDArray[Any]) -> None:
    if len(frames) < num_frames:
        raise UnreadableAudioError(
            str(path),
            f"truncated or damaged: only {len(frames)} of {num_frames} frames decode at frame {start}",
        )
    if frames.dtype != np.int16 and not np.isfinite(frames).all():
        raise UnreadableAudioError(
            str(path), f"NaN or infinite samples between frames {start} and {start + num_frames}"
        )


def _open(path: Path) -> _Reader:
    try:
        return _Reader(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        with open(path, "rb"):  # a file that cannot be opened raises its own, clearer OSError
            raise UnreadableAudioError(
                str(path), "no audio header that can be read (another format, or damaged)"
            ) from error


def _quiet(path: Path) -> AbstractContextManager[None]:
    return filtered_stderr() if path.suffix.lower() == ".mp3" else nullcontext()


def _decode(path: Path, start: int, num_frames: int) -> tuple[str, NDArray[Any]]:
    """Codec and (frames, C) from `start`, as many of `num_frames` as there are; int16 where the file has that."""
    with _quiet(path), _open(path) as reader:
        try:
            return reader.subtype, _seek_and_read(path, reader, start, num_frames)
        except soundfile.LibsndfileError:
            pass  # some multichannel Opus files decode but do not seek
    with _quiet(path), _open(path) as reader:
        try:
            return reader.subtype, _read_on_to(reader, start, num_frames)
        except soundfile.LibsndfileError:
            return reader.subtype, np.empty((0, reader.channels), dtype=np.float32)


def _seek_and_read(path: Path, reader: _Reader, start: int, num_frames: int) -> NDArray[Any]:
    """(frames, C) from `start`, decoding from as far before it as the codec needs."""
    preroll = _PREROLL_FRAMES.get(reader.subtype, 0)
    if reader.subtype == "MPEG_LAYER_III" and reader.samplerate not in _MPEG_1_RATES_HZ:
        preroll = _LOW_RATE_MP3_PREROLL_FRAMES
    origin = max(0, start - preroll)
    tail = reader.frames - _VORBIS_TAIL_FRAMES
    if reader.subtype == "VORBIS" and origin > tail:
        origin = max(0, min(origin, last_ogg_page_start(path) or tail))
    if origin > 0 and reader.seek(origin) != origin:
        return np.empty((0, reader.channels), dtype=np.float32)
    return _read(reader, start - origin + num_frames)[start - origin :]


def _read_on_to(reader: _Reader, start: int, num_frames: int) -> NDArray[Any]:
    """(frames, C) from `start`, by decoding all that lies before it, in blocks."""
    for at in range(0, start, _BLOCK_FRAMES):
        _read(reader, min(_BLOCK_FRAMES, start - at))
    return _read(reader, num_frames)


def _read(reader: _Reader, num_frames: int) -> NDArray[Any]:
    # libsndfile takes longer to make float32 of 16-bit samples than NumPy does.
    return reader.read(num_frames, dtype="int16" if reader.subtype == "PCM_16" else "float32", always_2d=True)


def _decodable_frames(path: Path, claimed: int) -> int:
    """Length of an MP3 file whose header does not tell it: looks for the last frames that decode.

    The claim is an estimate. Constant bit rates come out a little too long; of a variable bit rate whose
    claim is too short, libsndfile gives no more than the claim.

    Raises:
        UnreadableAudioError: Not even half of the claim decodes: other data that looks like MP3 in places.
    """
    back = _CHECKED_FRAMES
    while True:
        start = max(0, claimed - back)
        end = start + len(_decode(path, start, claimed - start)[1])
        if start < end and claimed // 2 <= end:
            return end
        if start <= claimed // 2:
            raise UnreadableAudioError(
                str(path), f"truncated or damaged: fewer than half of about {claimed} frames decode"
            )
        back *= 4

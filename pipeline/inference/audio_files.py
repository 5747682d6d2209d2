"""Audio files as streams: read in one pass, written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from pipeline.config.registry import suggest
from pipeline.data.audio_io import VORBIS_TO_WAV_ORDER, AudioInfo, probe
from pipeline.data.bad_files import UnreadableAudioError
from pipeline.data.decoder_noise import filtered_stderr
from pipeline.errors import DataError
from pipeline.inference.repeatable import remove_time_of_writing
from pipeline.inference.streams import Waveform

# Extension: container and sample type. Floating point where the container has it: nothing is clipped or rounded.
_FORMATS = {
    ".wav": ("WAV", "FLOAT"),
    ".rf64": ("RF64", "FLOAT"),
    ".w64": ("W64", "FLOAT"),
    ".caf": ("CAF", "FLOAT"),
    ".au": ("AU", "FLOAT"),
    ".flac": ("FLAC", "PCM_24"),
    ".aiff": ("AIFF", "PCM_24"),
    ".aif": ("AIFF", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_BYTES_PER_SAMPLE = {"FLOAT": 4, "PCM_24": 3}
# Containers that count their bytes with 32 bits, header included.
_SIZE_LIMIT_BYTES = {"WAV": 0xFFFF0000, "AIFF": 0xFFFF0000, "AU": 0xFFFF0000}
_BLOCK_FRAMES = 1 << 16


class _SequentialFile(soundfile.SoundFile):
    """A sound file that is read once from start to end.

    `seekable` is false so that soundfile does not seek after each read, which makes MP3 and Opus decoders start anew.
    """

    def seekable(self) -> bool:
        """Say no, see above."""
        return False


def inspect_audio(path: Path) -> AudioInfo:
    """Return what a file's header says, checked against its content.

    Raises:
        DataError: missing, no audio, truncated or not finite.
    """
    try:
        return probe(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None


def read_blocks(path: Path, info: AudioInfo) -> Iterator[Waveform]:
    """Decode a file from start to end; channels come in WAV order.

    Yields:
        Blocks (C, up to 65536 frames) float32, together `info.num_frames` long.

    Raises:
        DataError: fewer frames decode, or samples are not finite.
    """
    at = 0
    order = _channel_order(info.codec, info.channels)
    with _quiet(path):
        file = _SequentialFile(os.fsencode(path))
    with file:
        while at < info.num_frames:
            wanted = min(_BLOCK_FRAMES, info.num_frames - at)
            with _quiet(path):
                frames = _read(file, wanted)
            if len(frames) == 0:
                raise UnreadableAudioError(
                    str(path), f"truncated or damaged: only {at} of {info.num_frames} frames decode"
                )
            if not np.isfinite(frames).all():
                raise UnreadableAudioError(
                    str(path), f"NaN or infinite samples between frames {at} and {at + len(frames)}"
                )
            at += len(frames)
            yield np.ascontiguousarray(frames.T[order])


def _read(file: soundfile.SoundFile, num_frames: int) -> NDArray[np.float32]:
    """(frames, C): as many of `num_frames` as decode, none at a damaged place."""
    try:
        return file.read(num_frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return np.empty((0, file.channels), dtype=np.float32)


class AudioSink:
    """Takes the blocks of one file.

    Args:
        file: open for writing.
    """

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self._order = np.argsort(_channel_order(file.subtype, file.channels))
        self._has_full_scale = file.subtype != "FLOAT"
        self.num_frames = 0
        self.num_clipped = 0
        self.peak = 0.0

    def write(self, waveform: Waveform) -> None:
        """Append (C, S), channels in WAV order; formats with a full scale are clipped to it, and it is counted."""
        for at in range(0, waveform.shape[-1], _BLOCK_FRAMES):
            block = waveform[self._order, at : at + _BLOCK_FRAMES]
            self.peak = max(self.peak, float(np.abs(block).max()))
            if self._has_full_scale:
                self.num_clipped += int((np.abs(block) > 1.0).sum())
                block = block.clip(-1.0, 1.0)
            self._file.write(np.ascontiguousarray(block.T))
            self.num_frames += block.shape[-1]


@contextmanager
def audio_sink(path: Path, info: AudioInfo) -> Iterator[AudioSink]:
    """Open a file for audio of the length, rate and channels of `info`, in the format of its extension.

    It takes its place when the block ends without an error; before, and after an error, `path` is what it was. Equal
    audio gives equal bytes.

    Raises:
        DataError: the format is unknown or cannot hold the audio, or the file cannot be written.
    """
    container, subtype = output_format(path, info)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _open_for_writing(temporary, path, info, container, subtype) as file:
            yield AudioSink(file)
        _put_in_place(temporary, path)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: cannot be written to the end ({error.error_string.rstrip('.')}); free space there"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def output_format(path: Path, info: AudioInfo) -> tuple[str, str]:
    """Return container and sample type for the extension of `path`, in libsndfile's words.

    WAV becomes RF64 where its 32-bit sizes do not suffice.

    Raises:
        DataError: the extension is unknown, or the audio is too long for the container.
    """
    extension = path.suffix.lower()
    if extension not in _FORMATS:
        raise DataError(f"{path}: unknown output format {extension!r}; {suggest(extension, _FORMATS)}")
    container, subtype = _FORMATS[extension]
    num_bytes = info.num_frames * info.channels * _BYTES_PER_SAMPLE.get(subtype, 0)
    if num_bytes > _SIZE_LIMIT_BYTES.get(container, num_bytes):
        if container != "WAV":
            raise DataError(f"{path}: {num_bytes} bytes of audio are too many for {container}; use .wav")
        container = "RF64"
    return container, subtype


def _open_for_writing(
    temporary: Path, path: Path, info: AudioInfo, container: str, subtype: str
) -> soundfile.SoundFile:
    try:
        with temporary.open("wb"):  # tells what is wrong with the folder better than libsndfile does
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        return soundfile.SoundFile(
            os.fsencode(temporary),
            "w",
            samplerate=info.sample_rate_hz,
            channels=info.channels,
            format=container,
            subtype=subtype,
        )
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: {info.channels} channel(s) at {info.sample_rate_hz} Hz cannot be written as {path.suffix} "
            f"({error.error_string.rstrip('.')}); .wav takes them"
        ) from None


def _put_in_place(temporary: Path, path: Path) -> None:
    try:
        remove_time_of_writing(temporary)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def _channel_order(codec: str, channels: int) -> list[int]:
    """Place of each channel in WAV order among a file's own channels."""
    order = VORBIS_TO_WAV_ORDER.get(channels) if codec in ("VORBIS", "OPUS") else None
    return list(range(channels) if order is None else order)


def _quiet(path: Path) -> AbstractContextManager[None]:
    return filtered_stderr() if path.suffix.lower() == ".mp3" else nullcontext()

"""An audio file through a codec, into another file of the same length, rate and channels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.audio_io import AudioInfo
from pipeline.errors import DataError
from pipeline.inference.audio_files import audio_sink, inspect_audio, read_blocks
from pipeline.inference.chunked import DEFAULT_CHUNK_SECONDS, reconstruct_blocks
from pipeline.inference.codec import AudioCodec
from pipeline.inference.streams import Waveform, cut_blocks, resample_blocks


@dataclass(frozen=True)
class Reconstruction:
    """What was written.

    Attributes:
        info: length, rate and channels of input and output; codec of the input.
        peak: largest absolute sample before clipping, full scale 1.0.
        num_clipped: samples that the output's format could not hold.
    """

    info: AudioInfo
    peak: float
    num_clipped: int


def reconstruct_file(
    codec: AudioCodec,
    source: Path,
    target: Path,
    chunk_seconds: float = DEFAULT_CHUNK_SECONDS,
    progress: Callable[[float], None] | None = None,
) -> Reconstruction:
    """Reconstruct an audio file of any length, rate and channel count.

    The audio streams through in blocks: it is converted to the model's rate, reconstructed in chunks, and converted
    back. Channels that differ from the model's are handled as `pipeline.inference.channels` says. The target is in the
    format of its extension and replaces a file of this name.

    Args:
        codec: the model.
        source: audio file.
        target: file to write.
        chunk_seconds: length of a chunk; memory grows with it.
        progress: called with the fraction done.

    Raises:
        DataError: the source cannot be read or the target cannot be written.
        ConfigError: `chunk_seconds` is wrong for this model.
    """
    info = inspect_audio(source)
    if target.exists() and target.samefile(source):
        raise DataError(f"{target}: is the input itself; choose another name for the output")
    with audio_sink(target, info) as sink:
        for block in _reconstructed(codec, read_blocks(source, info), info, chunk_seconds):
            sink.write(block)
            if progress is not None:
                progress(sink.num_frames / info.num_frames)
    return Reconstruction(info, sink.peak, sink.num_clipped)


def _reconstructed(
    codec: AudioCodec, blocks: Iterator[Waveform], info: AudioInfo, chunk_seconds: float
) -> Iterator[Waveform]:
    at_model_rate = resample_blocks(blocks, info.sample_rate_hz, codec.sample_rate_hz)
    estimate = reconstruct_blocks(codec, at_model_rate, chunk_seconds)
    return cut_blocks(resample_blocks(estimate, codec.sample_rate_hz, info.sample_rate_hz), info.num_frames)

"""`python -m pipeline.inference RUN IN OUT`: listen to what a trained model makes of a file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.errors import ConfigError, PipelineError
from pipeline.inference.chunked import DEFAULT_CHUNK_SECONDS
from pipeline.inference.codec import AudioCodec
from pipeline.inference.locate import find_checkpoint
from pipeline.inference.reconstruct import Reconstruction, reconstruct_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Reconstruct one file and return the exit code: 1 with one sentence for a user's error."""
    options = _parser().parse_args(arguments)
    try:
        checkpoint = find_checkpoint(options.run, options.checkpoint)
        codec = AudioCodec.load(checkpoint, _device(options.device))
        progress = _show_progress if sys.stderr.isatty() else None
        result = reconstruct_file(codec, options.input, options.output, options.chunk_seconds, progress)
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    _say(f"{options.output}: {_describe(result)}; model {checkpoint} on {codec.device}")
    if result.num_clipped:
        _say(
            f"{result.num_clipped} samples beyond full scale were clipped (peak {result.peak:.3f}); .wav keeps them"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.inference",
        description="Reconstruct an audio file of any length, rate and channel count with a trained model. The output "
        "has the input's length, rate and channels, and the format of its extension: wav, rf64, w64, caf and au in "
        "32-bit float, flac and aiff in 24 bit, ogg (Vorbis), opus, mp3.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory or .ckpt file")
    parser.add_argument("input", metavar="IN", type=Path, help="audio file")
    parser.add_argument("output", metavar="OUT", type=Path, help="audio file to write")
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), help="of a run directory (default: best where there is one)"
    )
    parser.add_argument(
        "--chunk-seconds",
        type=float,
        default=DEFAULT_CHUNK_SECONDS,
        metavar="S",
        help="longer chunks are a little faster and need more memory; the result is the same (default: %(default)g)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    return parser


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda: no CUDA device is available; use --device cpu")
    return "cuda" if available and name != "cpu" else "cpu"


def _describe(result: Reconstruction) -> str:
    info = result.info
    duration_s = info.num_frames / info.sample_rate_hz
    return f"{duration_s:.2f} s, {info.sample_rate_hz} Hz, {info.channels} channel(s)"


def _say(line: str) -> None:
    """Write a line; file names may hold what the terminal cannot show."""
    encoding = sys.stdout.encoding
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _show_progress(fraction: float) -> None:
    sys.stderr.write(f"\r{fraction:4.0%}" + ("\n" if fraction >= 1 else ""))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

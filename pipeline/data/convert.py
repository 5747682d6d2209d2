"""`python -m pipeline.data.convert SOURCE OUT`: m4a, aac and others, which cannot be read directly, once to FLAC."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipeline.data import UNSUPPORTED_EXTENSIONS
from pipeline.data.audio_io import probe
from pipeline.data.bad_files import BadFile, UnreadableAudioError
from pipeline.data.listing import list_audio
from pipeline.errors import DataError, PipelineError


def convert_folder(source: Path, out: Path, num_jobs: int) -> Iterator[BadFile | Path]:
    """Converts every file below `source` that libsndfile does not read, keeping folders: `a/b.m4a` to `a/b.m4a.flac`.

    A file that is converted already, and not older than its source, is left as it is.

    Args:
        source: Folder of audio.
        out: Folder of the FLAC files; it may be `source`.
        num_jobs: Conversions at a time.

    Yields:
        Each new file, or what is wrong with one that could not be converted.

    Raises:
        DataError: There is no ffmpeg, or `source` is no folder.
    """
    if not source.is_dir():
        raise DataError(f"SOURCE={source} is not a folder; give a folder of audio")
    program = shutil.which("ffmpeg")
    files = [file.path for file in list_audio(source, UNSUPPORTED_EXTENSIONS).files]
    wanted = [(source / path, out / f"{path}.flac") for path in files]
    missing = [(old, new) for old, new in wanted if not _is_converted(old, new)]
    if missing and program is None:
        raise DataError(
            f"{len(missing)} files below {source} need ffmpeg, which is not on PATH (first: {missing[0][0]}); install "
            "ffmpeg, or convert them elsewhere to flac or wav"
        )
    with ThreadPoolExecutor(num_jobs) as pool:
        yield from pool.map(partial(_convert, program or ""), *zip(*missing, strict=True)) if missing else ()


def _is_converted(old: Path, new: Path) -> bool:
    return new.is_file() and new.stat().st_mtime_ns >= old.stat().st_mtime_ns


def _convert(program: str, old: Path, new: Path) -> BadFile | Path:
    """Decodes the first audio stream; the file appears when it is complete and can be read."""
    unfinished = new.with_name(f".{new.name}.{os.getpid()}.flac")
    options = [
        "-map",
        "0:a:0",
        "-map_metadata",
        "-1",
        "-fflags",
        "+bitexact",
        "-flags:a",
        "+bitexact",
        "-c:a",
        "flac",
    ]
    command = [
        program,
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-i",
        os.fspath(old),
        *options,
        os.fspath(unfinished),
    ]
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if ended.returncode:
            return BadFile(
                str(old), " ".join(ended.stderr.split()) or f"ffmpeg ended with {ended.returncode}"
            )
        probe(unfinished)
        unfinished.replace(new)
    except UnreadableAudioError as error:
        return BadFile(str(old), error.bad_file.reason)
    except OSError as error:
        return BadFile(str(old), f"cannot be converted ({error.strerror})")
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return new


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, and return the exit code: 1 for a user's error, in one sentence, or if a file could not be converted."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.data.convert",
        description="Convert what cannot be read directly (m4a, aac, wma, ...) to FLAC, once, with ffmpeg. The same "
        "command again converts what is new.",
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of audio")
    parser.add_argument(
        "out", metavar="OUT", type=Path, nargs="?", help="folder of the FLAC files (default: SOURCE)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="at a time (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        found = list(convert_folder(options.source, options.out or options.source, max(1, options.jobs)))
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    bad = [result for result in found if isinstance(result, BadFile)]
    for result in bad:
        sys.stdout.write(f"not converted: {result}\n".encode("ascii", "backslashreplace").decode())
    sys.stdout.write(f"{len(found) - len(bad)} files converted, {len(bad)} not\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

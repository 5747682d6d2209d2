"""`python -m pipeline.data.pack SOURCE OUT`: pack a folder of audio once, for data=packed data.root=OUT."""

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.data import AUDIO_EXTENSIONS
from pipeline.data.contents import Contents
from pipeline.data.manifest import Manifest, scan
from pipeline.data.pack.layout import INDEX, PlannedShard, Shard, plan, read_shard
from pipeline.data.pack.storage import is_pack
from pipeline.data.pack.verify import damaged_tracks
from pipeline.data.pack.write import finish, pack_shards
from pipeline.errors import ConfigError, DataError, PipelineError

_MIB = 1 << 20
_NAMED = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, or verify, and return the exit code: 1 with one sentence for a user's error."""
    options = _parser().parse_args(arguments)
    try:
        if options.verify:
            return _verify(options.source)
        if options.out is None:
            raise ConfigError("OUT is missing: the folder that takes the pack")
        return _pack(options)
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.data.pack",
        description="Decode a folder of audio once, into 16-bit shards that are read without decoding. Sample rates "
        "and channels are kept; what has more than 16 bits is rounded, what lies beyond full scale is clipped, and "
        "both are counted. The same command again goes on where it was interrupted.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="folder of audio; with --verify, the pack"
    )
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", help="folder of the pack")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="do part I of N, 0 to N-1, as one of N jobs of an array (default: all)"
    )
    parser.add_argument(
        "--shard-mib", type=int, default=512, metavar="M", help="size of a shard (default: %(default)s)"
    )
    parser.add_argument(
        "--extensions", nargs="+", default=list(AUDIO_EXTENSIONS), metavar="EXT", help="files to take in"
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path(os.environ.get("EULER_CACHE", "~/.cache/euler_audio_backbone")),
        help="where the scan of the folder is remembered (default: %(default)s)",
    )
    parser.add_argument("--verify", action="store_true", help="check all checksums of a pack")
    return parser


def _pack(options: argparse.Namespace) -> int:
    if options.jobs < 1 or options.shard_mib < 1:
        raise ConfigError("--jobs and --shard-mib take 1 and more")
    part, num_parts = _part(options.shard)
    manifest = _source(options.source, options.extensions, options.cache_dir.expanduser())
    folder = options.out.expanduser()
    if folder.resolve().is_relative_to(options.source.resolve()):
        raise ConfigError(f"OUT={folder} lies inside SOURCE={options.source}; valid: a folder beside it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"OUT={folder} cannot be made ({error.strerror}); choose another folder") from error
    shards = plan(manifest, options.shard_mib * _MIB)
    own = [shard for shard in shards if shard.number % num_parts == part]
    missing = [shard for shard in own if read_shard(folder, shard) is None]
    if len(missing) < len(own):
        _say(f"{len(own) - len(missing)} of {len(own)} shards are there already")
    _pack_missing(manifest, folder, missing, min(options.jobs, max(1, len(missing))))
    complete = finish(manifest, folder, shards, _say)
    if complete is not None:
        _account(folder, manifest, complete)
    return 0


def _source(source: Path, extensions: Sequence[str], cache_dir: Path) -> Manifest:
    if not source.is_dir():
        raise DataError(f"SOURCE={source} is not a folder; give a folder of audio")
    if is_pack(source):
        raise ConfigError(f"SOURCE={source} is a pack already; give the folder of the original audio")
    manifest = scan(source, extensions, cache_dir=cache_dir, report=_say)
    if not manifest.entries:
        raise DataError(f"SOURCE={source} holds no usable audio ({len(manifest.bad_files)} bad files)")
    contents = Contents((manifest,), cache_dir)
    contents.read(_say)
    return contents.fill(manifest)


def _part(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise ConfigError(f"--shard {text}: valid: I/N with I from 0 to N-1, like 0/8")
    return int(found[1]), int(found[2])


def _pack_missing(manifest: Manifest, folder: Path, missing: list[PlannedShard], num_jobs: int) -> None:
    began_s, seconds, num_bytes = time.monotonic(), 0.0, 0
    for number, (planned, shard) in enumerate(pack_shards(manifest, folder, missing, num_jobs), 1):
        seconds += sum(entry.duration_s for entry in planned.entries)
        num_bytes += shard.num_bytes
        speed = seconds / max(1e-3, time.monotonic() - began_s)
        _say(
            f"shard {planned.number}: {number} of {len(missing)} packed, {num_bytes / _MIB:.0f} MiB, "
            f"{speed:.0f} times as fast as it plays"
        )


def _account(folder: Path, manifest: Manifest, shards: list[Shard]) -> None:
    """Say what was packed and what was lost."""
    tracks = [track for shard in shards for track in shard.tracks]
    _say(
        f"{folder}: {len(tracks)} tracks, {manifest.hours:.2f} h in {len(shards)} shards, "
        f"{sum(shard.num_bytes for shard in shards) / _MIB:.0f} MiB; train with data=packed data.root={folder}"
    )
    rounded = sorted({track.entry.audio.codec for track in tracks if track.num_rounded})
    exact = sum(not track.num_rounded for track in tracks)
    _say(
        f"{exact} tracks are kept to the bit"
        + (f"; rounded to 16 bits: {', '.join(rounded)}" if rounded else "")
    )
    clipped = [track for track in tracks if track.num_clipped]
    for track in clipped[:_NAMED]:
        _say(f"clipped: {track.num_clipped} samples beyond full scale in {track.entry.path}")
    if len(clipped) > _NAMED:
        _say(f"clipped: {len(clipped) - _NAMED} more tracks")
    for bad in (*manifest.bad_files, *(found for shard in shards for found in shard.bad)):
        _say(f"left out: {bad}")


def _verify(folder: Path) -> int:
    if not is_pack(folder):
        raise DataError(f"{folder} holds no {INDEX}: not a pack, or one that is not complete")
    damaged = damaged_tracks(folder)
    for bad in damaged:
        _say(f"damaged: {bad}")
    _say(f"{folder}: {'no block is damaged' if not damaged else f'{len(damaged)} tracks are damaged'}")
    return 1 if damaged else 0


def _say(line: str) -> None:
    """Write a line; file names may hold what the terminal cannot show."""
    encoding = sys.stdout.encoding
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

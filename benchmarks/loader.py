"""How fast audio is delivered: crops of our data set beside a bare seek-and-read of the same crops of the same files.

    python benchmarks/loader.py                                # four tracks of three minutes of each kind, made once
    python benchmarks/loader.py --seconds 60 --crops 20 --json loader.json
    python benchmarks/loader.py --entries 200000               # the manifest, too

"Bare" opens the file, seeks, reads the crop as float32 with soundfile, and closes it: no check of what was read, no
decoding ahead of the crop, no conversion to (channels, samples). Ours is `TrainSegments`, what one loader worker does.
The rounds of the two alternate, so that both see the same machine; counted is the processor's time of this process,
which another job beside it does not change much, and the best round of each counts.

The first scan of 100 copies of a track is timed beside `soundfile.info` of each of them, wall clock, with the files in
memory and after the system was asked to forget them; so is the second pass, which reads what they hold beside training.

Claims: at least 85 % of bare for wav, flac, mp3 and ogg; packed at least 8 times flac; the first scan of a folder is at
least as fast as reading each header once; a cached manifest of 200,000 entries opens in under 2 s.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from benchmarks.loader_manifest import ManifestTimes, time_manifest, time_scans
from pipeline.data.dataset import SegmentFormat, TrainSegments
from pipeline.data.manifest import scan
from pipeline.data.pack.__main__ import main as pack
from pipeline.data.pack.storage import open_pack
from pipeline.data.sampler import SampleKey

RATE_HZ = 44100
FORM = SegmentFormat(num_samples=127 * 512, sample_rate_hz=RATE_HZ, channels=2)
KINDS = {
    "wav": {"subtype": "PCM_16"},
    "flac": {"subtype": "PCM_16"},
    "mp3": {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.3},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
}
LEAST_OF_BARE = 0.85
LEAST_OF_FLAC = 8.0


@dataclass(frozen=True)
class Speed:
    """Crops per second of one worker.

    Attributes:
        kind: of the files.
        ours: of our data set.
        bare: of a bare seek-and-read of the same crops; None where there is nothing to compare.
    """

    kind: str
    ours: float
    bare: float | None


def write_tracks(folder: Path, num_tracks: int, seconds: int) -> None:
    """Write the same tracks as every kind of file: tones with overtones over noise, in stereo."""
    rng = np.random.default_rng(0)
    for number in range(num_tracks):
        t = np.arange(seconds * RATE_HZ) / RATE_HZ
        tones = [np.sin(2 * np.pi * 110 * k * (1 + number / 7) * t) / k for k in (1, 2, 3, 5, 8)]
        swell = 0.55 + 0.45 * np.sin(2 * np.pi * 0.4 * t)
        left = 0.2 * sum(tones) * swell
        track = np.stack([left, np.roll(left, 441)], axis=1) + 0.01 * rng.standard_normal((len(t), 2))
        for kind, options in KINDS.items():
            (folder / kind).mkdir(exist_ok=True)
            path = folder / kind / f"{number}.{kind}"
            with soundfile.SoundFile(path, "w", RATE_HZ, 2, **options) as stream:
                for at in range(0, len(track), RATE_HZ):  # libsndfile's Vorbis encoder takes no long blocks
                    stream.write(track[at : at + RATE_HZ])


def read_bare(path: str, start: int) -> None:
    """Seek and read, and no more."""
    with soundfile.SoundFile(path) as stream:
        stream.seek(start)
        stream.read(FORM.num_samples, dtype="float32", always_2d=True)


def best_of(rounds: int, jobs: list[Callable[[], None]]) -> list[float]:
    """Return the least processor time of each job, in seconds; the rounds of the jobs alternate."""
    best = [float("inf")] * len(jobs)
    for _ in range(rounds):
        for number, job in enumerate(jobs):
            began = time.process_time()
            job()
            best[number] = min(best[number], time.process_time() - began)
    return best


def measure(
    dataset: TrainSegments, kind: str, num_crops: int, rounds: int, *, has_files: bool = True
) -> Speed:
    """Time our data set, and the bare reading of the crops that it cuts."""
    keys = [SampleKey(item, 0, item) for item in range(num_crops)]
    crops = [
        (segment.path, int(segment.source.rpartition("@")[2])) for segment in map(dataset.__getitem__, keys)
    ]

    def ours() -> None:
        for key in keys:
            dataset[key]

    def bare() -> None:
        for path, start in crops:
            read_bare(path, start)

    seconds = best_of(rounds, [ours, bare] if has_files else [ours])
    speeds = [num_crops / max(1e-9, each) for each in seconds]
    return Speed(kind, speeds[0], speeds[1] if has_files else None)


def measure_all(folder: Path, options: argparse.Namespace) -> list[Speed]:
    """Measure every kind, and the pack of the flac files."""
    write_tracks(folder, options.tracks, options.seconds)
    speeds = []
    for kind in KINDS:
        dataset = TrainSegments(scan(folder / kind, cache_dir=folder / "cache"), FORM, seed=0)
        speeds.append(measure(dataset, kind, options.crops, options.rounds))
    if pack(
        [str(folder / "flac"), str(folder / "pack"), "--jobs", "1", "--cache-dir", str(folder / "cache")]
    ):
        raise SystemExit("packing failed")
    dataset = TrainSegments(open_pack(folder / "pack"), FORM, seed=0)
    speeds.append(measure(dataset, "packed", 10 * options.crops, options.rounds, has_files=False))
    return speeds


def verdicts(speeds: list[Speed], manifest: ManifestTimes) -> dict[str, bool]:
    """Return every claim and whether it holds here."""
    by_kind = {speed.kind: speed for speed in speeds}
    found = {
        f"{speed.kind}: at least {LEAST_OF_BARE:.0%} of bare": speed.ours >= LEAST_OF_BARE * speed.bare
        for speed in speeds
        if speed.bare is not None
    }
    packed = by_kind["packed"].ours / by_kind["flac"].ours
    found[f"packed: at least {LEAST_OF_FLAC:g} times flac ({packed:.1f})"] = packed >= LEAST_OF_FLAC
    return found | manifest.verdicts


def main() -> int:
    """Measure, print, and return 0 if every claim holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=int, default=4, help="of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=180, help="length of a track (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=60, help="of a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="of which the best counts (default: %(default)s)"
    )
    parser.add_argument("--entries", type=int, default=0, help="size of the manifest to open (default: none)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="loader-") as place:
        speeds = measure_all(Path(place), options)
        manifest = ManifestTimes(time_scans(Path(place), list(KINDS)))
        if options.entries:
            manifest = time_manifest(Path(place), options.entries, manifest.scans)
    table = Table("files", "ours, crops/s", "bare, crops/s", "ours / bare")
    for speed in speeds:
        bare = ("", "") if speed.bare is None else (f"{speed.bare:.0f}", f"{speed.ours / speed.bare:.2f}")
        table.add_row(speed.kind, f"{speed.ours:.0f}", *bare)
    console.print(table)
    for times in manifest.tables():
        console.print(times)
    found = verdicts(speeds, manifest)
    for claim, holds in found.items():
        console.print(f"{'holds' if holds else 'FAILS'}  {claim}")
    if options.json:
        figures = {
            "speeds": [asdict(speed) for speed in speeds],
            "claims": found,
            "manifest": asdict(manifest),
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

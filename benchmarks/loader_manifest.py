"""Times of the manifest, for `benchmarks/loader.py`: the first scan of real files, and opening a large one."""

import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import soundfile
from rich.table import Table

from pipeline.data.contents import Contents
from pipeline.data.manifest import load, scan

LONGEST_OPENING_S = 2.0
_COPIES = 100
_ROUNDS = 5


@dataclass(frozen=True)
class ScanTimes:
    """Wall-clock seconds for the same files, the best of some rounds.

    Attributes:
        num_bytes: of all files.
        scan_s: first scan of the folder, from listing it to the written cache.
        headers_s: `soundfile.info` of each file of the folder.
        cold_scan_s, cold_headers_s: the same after the system was asked to forget what the files hold.
        second_pass_s: reading what the files hold, as a run does beside its training, in one thread of low priority.
    """

    num_bytes: int
    scan_s: float
    headers_s: float
    cold_scan_s: float
    cold_headers_s: float
    second_pass_s: float

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as fast the scan is, of files that the system has in memory and of others."""
        return {"warm": self.headers_s / self.scan_s, "cold": self.cold_headers_s / self.cold_scan_s}


@dataclass(frozen=True)
class ManifestTimes:
    """Wall-clock seconds, the best of some rounds.

    Attributes:
        scans: by kind of file.
        num_entries: of the large manifest; None: none was made.
        open_s: from its cache alone, as all processes of a run but one do.
        check_s: from its cache after listing the folder, as the first process does.
    """

    scans: dict[str, ScanTimes]
    num_entries: int | None = None
    open_s: float = 0.0
    check_s: float = 0.0

    @property
    def verdicts(self) -> dict[str, bool]:
        """Every claim and whether it holds here."""
        found = {
            f"{kind}, {state}: the first scan is at least as fast as reading each header once ({ratio:.1f})": ratio
            >= 1.0
            for kind, times in self.scans.items()
            for state, ratio in times.ratios.items()
        }
        if self.num_entries is not None:
            opens = f"a cached manifest of {self.num_entries} entries opens in under {LONGEST_OPENING_S:g} s"
            found[opens] = self.open_s < LONGEST_OPENING_S
        return found

    def tables(self) -> list[Table]:
        """What was measured."""
        scans = Table(
            f"{_COPIES} files", "first scan, ms", "each header, ms", "times as fast", "second pass, s", "GiB"
        )
        for kind, times in self.scans.items():
            warm, cold = times.ratios["warm"], times.ratios["cold"]
            scans.add_row(
                kind,
                f"{1e3 * times.scan_s:.1f}",
                f"{1e3 * times.headers_s:.1f}",
                f"{warm:.1f}",
                f"{times.second_pass_s:.2f}",
                f"{times.num_bytes / (1 << 30):.2f}",
            )
            scans.add_row(
                f"{kind}, cold",
                f"{1e3 * times.cold_scan_s:.1f}",
                f"{1e3 * times.cold_headers_s:.1f}",
                f"{cold:.1f}",
            )
        if self.num_entries is None:
            return [scans]
        large = Table(f"manifest of {self.num_entries} entries", "seconds")
        large.add_row("from the cache", f"{self.open_s:.2f}")
        large.add_row("folder listed and compared", f"{self.check_s:.2f}")
        return [scans, large]


def time_scans(folder: Path, kinds: list[str]) -> dict[str, ScanTimes]:
    """Scan copies of a track of every kind for the first time, and read each of their headers."""
    return {kind: _time_scan(folder, kind) for kind in kinds}


def _time_scan(folder: Path, kind: str) -> ScanTimes:
    """The rounds of the two alternate, and either is first in every second of them."""
    root, cache = folder / f"many-{kind}", folder / "first"
    root.mkdir()
    for number in range(_COPIES):
        shutil.copyfile(folder / kind / f"0.{kind}", root / f"{number:03d}.{kind}")
    os.sync()

    def first_scan() -> None:
        manifest = scan(root, [kind], cache_dir=cache)
        assert len(manifest.entries) == _COPIES and not manifest.bad_files

    def headers() -> None:
        for path in sorted(root.iterdir()):
            soundfile.info(path)

    best: dict[tuple[str, bool], float] = {}
    for number in range(2 * _ROUNDS):
        for is_cold in (False, True):
            jobs = {"scan": first_scan, "headers": headers}
            for name in sorted(jobs, reverse=number % 2 == 0):
                shutil.rmtree(cache, ignore_errors=True)
                if is_cold:
                    _forget(root)
                began = time.perf_counter()
                jobs[name]()
                taken = time.perf_counter() - began
                best[name, is_cold] = min(taken, best.get((name, is_cold), taken))
            headers()  # what is forgotten is in memory again
    contents = Contents((scan(root, [kind], cache_dir=cache),), cache)
    thread = threading.Thread(target=contents.read_beside)
    began = time.perf_counter()
    thread.start()
    thread.join()
    second_pass_s = time.perf_counter() - began
    assert not contents.missing
    num_bytes = sum(path.stat().st_size for path in root.iterdir())
    shutil.rmtree(root)
    return ScanTimes(
        num_bytes,
        best["scan", False],
        best["headers", False],
        best["scan", True],
        best["headers", True],
        second_pass_s,
    )


def _forget(root: Path) -> None:
    """Ask the system to forget what the files of a folder hold; systems need not."""
    for path in root.iterdir():
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def time_manifest(folder: Path, num_entries: int, scans: dict[str, ScanTimes]) -> ManifestTimes:
    """Scan a folder of very many short files once, and time what opening it again takes."""
    root, cache = folder / "very-many", folder / "very-many-cache"
    root.mkdir()
    template = root / "template.wav"
    soundfile.write(template, [0.0] * 64, 16000, subtype="PCM_16")
    content = template.read_bytes()
    template.unlink()
    for number in range(num_entries):
        place = root / f"{number // 1000:03d}"
        place.mkdir(exist_ok=True)
        (place / f"{number:07d}.wav").write_bytes(content)
    scan(root, ["wav"], cache_dir=cache)
    opened, checked = [], []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        manifest = load(root, ["wav"], cache_dir=cache)
        opened.append(time.perf_counter() - began)
        assert manifest is not None and len(manifest.entries) == num_entries
        began = time.perf_counter()
        scan(root, ["wav"], cache_dir=cache)
        checked.append(time.perf_counter() - began)
    return ManifestTimes(scans, num_entries, min(opened), min(checked))

"""Times of the manifest, for `benchmarks/loader.py`: the first scan of real files, and opening a large one."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import soundfile
from rich.table import Table

from pipeline.data.manifest import load, scan

LONGEST_OPENING_S = 2.0
_COPIES = 100
_ROUNDS = 5


@dataclass(frozen=True)
class ManifestTimes:
    """Wall-clock seconds, the best of some rounds.

    Attributes:
        scans: kind of file -> (first scan of a folder, reading each header once).
        num_entries: of the large manifest.
        open_s: from its cache alone, as all processes of a run but one do.
        check_s: from its cache after listing the folder, as the first process does.
    """

    scans: dict[str, tuple[float, float]]
    num_entries: int
    open_s: float
    check_s: float

    @property
    def verdicts(self) -> dict[str, bool]:
        """Every claim and whether it holds here."""
        found = {
            f"{kind}: the first scan takes no longer than reading each header once": ours <= headers
            for kind, (ours, headers) in self.scans.items()
        }
        opens = f"a cached manifest of {self.num_entries} entries opens in under {LONGEST_OPENING_S:g} s"
        found[opens] = self.open_s < LONGEST_OPENING_S
        return found

    def table(self) -> Table:
        """What was measured."""
        table = Table("manifest", "seconds")
        for kind, (ours, headers) in self.scans.items():
            table.add_row(f"{_COPIES} {kind} files, first scan", f"{ours:.3f}")
            table.add_row(f"{_COPIES} {kind} files, each header once", f"{headers:.3f}")
        table.add_row(f"{self.num_entries} entries from the cache", f"{self.open_s:.2f}")
        table.add_row(f"{self.num_entries} entries, folder listed and compared", f"{self.check_s:.2f}")
        return table


def time_scan(folder: Path, kinds: list[str]) -> dict[str, tuple[float, float]]:
    """Scan copies of a track of every kind for the first time, and read each of their headers."""
    found = {}
    for kind in kinds:
        root = folder / f"many-{kind}"
        root.mkdir()
        for number in range(_COPIES):
            shutil.copyfile(folder / kind / f"0.{kind}", root / f"{number:03d}.{kind}")
        ours, headers = [], []
        for _ in range(_ROUNDS):
            shutil.rmtree(folder / "first", ignore_errors=True)
            began = time.perf_counter()
            scan(root, [kind], cache_dir=folder / "first")
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            for path in sorted(root.iterdir()):
                soundfile.info(path)
            headers.append(time.perf_counter() - began)
        found[kind] = (min(ours), min(headers))
        shutil.rmtree(root)
    return found


def time_manifest(folder: Path, num_entries: int, scans: dict[str, tuple[float, float]]) -> ManifestTimes:
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

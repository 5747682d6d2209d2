"""The official splits and subsets of the Free Music Archive data set."""

import csv
from typing import Literal

from pipeline.data.manifest import AudioEntry, Manifest
from pipeline.data.selections.base import SPLITS, Division, Tracks, divided, read_lines, split_named
from pipeline.errors import DataError

_SUBSETS = ("small", "medium", "large", "full")


class FmaTracks:
    """The tracks of `tracks.csv`: track 123456 lies at `123/123456.mp3` below the root.

    A track's subset is the smallest that holds it; each subset holds the smaller ones.

    Source: Defferrard et al., FMA: A Dataset For Music Analysis, 2017; its fma_metadata/tracks.csv.
    """

    def __init__(
        self,
        tracks: str,
        subset: Literal["small", "medium", "large", "full"] = "full",
        evaluate_on: Literal["validation", "test"] = "validation",
    ) -> None:
        """Opens nothing yet.

        Args:
            tracks: The file tracks.csv.
            subset: Subset to take.
            evaluate_on: Split to evaluate on; the other one is left out.
        """
        self._file = tracks
        self._subsets = _SUBSETS[: _SUBSETS.index(subset) + 1]
        self._evaluate_on = evaluate_on

    def divide(self, manifest: Manifest) -> Division:
        """Divides the tracks of the subset as the table does."""
        rows = csv.reader(read_lines(self._file))
        top, below = next(rows, []), next(rows, [])
        columns = {names: place for place, names in enumerate(zip(top, below, strict=False))}
        missing = [name for name in ("split", "subset") if ("set", name) not in columns]
        if missing:
            raise DataError(
                f"{self._file}: the two header lines have no column set/{missing[0]}, as FMA's table has"
            )
        split_at, subset_at = columns["set", "split"], columns["set", "subset"]
        tracks = Tracks(manifest, self._file)
        found: dict[str, list[AudioEntry]] = {split: [] for split in SPLITS}
        for row in rows:
            if not row or not row[0].isdigit():  # the line that names the index
                continue
            if len(row) <= max(split_at, subset_at):
                raise DataError(f"{self._file}:{rows.line_num}: the line ends before its split and subset")
            split = split_named(row[split_at])
            if row[subset_at] in self._subsets and split in ("train", self._evaluate_on):
                name = row[0].zfill(6)
                entry = tracks.find(
                    *(f"{name[:3]}/{name}.{extension}" for extension in ("mp3", "flac", "wav", "ogg"))
                )
                found[split] += [entry] if entry is not None else []
        return divided(found, self._evaluate_on, {}, tracks, self._file)

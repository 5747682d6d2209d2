"""A list of tracks with splits and weights, as CSV or JSON lines."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Literal

from pipeline.data.manifest import AudioEntry, Manifest
from pipeline.data.selections.base import SPLITS, Division, Tracks, divided, read_lines, split_named
from pipeline.errors import DataError


class TrackList:
    """The tracks that a list names.

    A CSV file has a header, a JSONL file one object a line, both with `path` (below `data.root`, or absolute) and, if
    wanted, `split` and `weight`; other columns are passed over. Without splits a share is held out by name. A track of
    weight 2 is drawn twice as often as one of its length of weight 1, one of weight 0 never.
    """

    def __init__(self, file: str, evaluate_on: Literal["validation", "test"] = "validation") -> None:
        """Opens nothing yet.

        Args:
            file: List, by its extension .csv or .jsonl.
            evaluate_on: Split to evaluate on; the other one is left out.
        """
        self._file = file
        self._evaluate_on = evaluate_on

    def divide(self, manifest: Manifest) -> Division:
        """Divides the listed tracks."""
        tracks = Tracks(manifest, self._file)
        found: dict[str, list[AudioEntry]] = {split: [] for split in SPLITS}
        weights: dict[str, float] = {}
        seen: dict[str, int] = {}
        has_splits = False
        for number, row in self._rows():
            path = self._path(number, row, manifest)
            if path in seen:
                raise DataError(
                    f"{self._file}:{number}: {path} stands in line {seen[path]} already; remove one"
                )
            seen[path] = number
            weight, split = self._weight(number, row), self._split(number, row)
            has_splits |= split is not None
            entry = tracks.find(path)
            if entry is None or (weight == 0 and split in (None, "train")):
                continue
            weights |= {path: weight} if weight != 1 else {}
            found[split or "train"].append(entry)
        if has_splits:
            return divided(found, self._evaluate_on, weights, tracks, self._file)
        if not found["train"]:
            raise DataError(
                f"{self._file}: none of its {len(seen)} tracks is usable audio in {manifest.root}"
            )
        train = tuple(sorted(found["train"], key=lambda entry: entry.path))
        return Division(train, None, weights, tracks.notes())

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yields line numbers and columns."""
        lines = read_lines(self._file)
        extension = PurePath(self._file).suffix.lower()
        if extension == ".csv":
            reader = csv.DictReader(lines)
            if "path" not in (reader.fieldnames or ()):
                raise DataError(f"{self._file}:1: the header has no column 'path'")
            yield from ((reader.line_num, row) for row in reader)
        elif extension == ".jsonl":
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, self._object(number, line)
        else:
            raise DataError(f"{self._file}: the extension {extension!r} is no list; valid: .csv, .jsonl")

    def _object(self, number: int, line: str) -> Mapping[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{self._file}:{number}: no JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f'{self._file}:{number}: an object is expected, like {{"path": "a.wav"}}')
        return row

    def _path(self, number: int, row: Mapping[str, Any], manifest: Manifest) -> str:
        path = row.get("path")
        if not isinstance(path, str) or not path:
            raise DataError(f"{self._file}:{number}: has no path")
        pure = PurePath(path)
        if pure.is_absolute() and pure.is_relative_to(manifest.root):
            pure = pure.relative_to(manifest.root)
        elif pure.is_absolute() or ".." in pure.parts:
            raise DataError(f"{self._file}:{number}: {path} is not below data.root={manifest.root}")
        return str(pure)

    def _split(self, number: int, row: Mapping[str, Any]) -> str | None:
        name = row.get("split")
        if name is None or name == "":
            return None
        split = split_named(str(name))
        if split is None:
            raise DataError(
                f"{self._file}:{number}: split {name!r} is unknown; valid: {', '.join(map(', '.join, SPLITS.values()))}"
            )
        return split

    def _weight(self, number: int, row: Mapping[str, Any]) -> float:
        given = row.get("weight")
        if given is None or given == "":
            return 1.0
        try:
            weight = float(given)
        except (TypeError, ValueError):
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise DataError(f"{self._file}:{number}: weight {given!r} is no number of 0 and more")
        return weight

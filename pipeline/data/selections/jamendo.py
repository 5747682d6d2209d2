"""The official splits of MTG-Jamendo."""

from pathlib import Path
from typing import Literal

from pipeline.data.manifest import AudioEntry, Manifest
from pipeline.data.selections.base import SPLITS, Division, Tracks, divided, read_lines
from pipeline.errors import DataError

_PATH = "PATH"


class JamendoSplits:
    """The tracks of `<subset>-train.tsv`, `-validation.tsv` and `-test.tsv`, in numbered folders below the root.

    The lists name `48/948.mp3`; the low-quality edition has the same track as `48/948.low.mp3`, a re-encoded copy
    may have it as flac, wav, ogg or opus.

    Source: Bogdanov et al., The MTG-Jamendo Dataset for Automatic Music Tagging, 2019; its folder data/splits.
    """

    def __init__(
        self,
        folder: str,
        subset: str = "autotagging",
        evaluate_on: Literal["validation", "test"] = "validation",
    ) -> None:
        """Opens nothing yet.

        Args:
            folder: Folder of the lists, like data/splits/split-0.
            subset: How the names of the lists begin: autotagging, autotagging_moodtheme, ...
            evaluate_on: Split to evaluate on; the other one is left out.
        """
        self._folder = Path(folder)
        self._subset = subset
        self._evaluate_on = evaluate_on

    def divide(self, manifest: Manifest) -> Division:
        """Divides the tracks as the lists do."""
        tracks = Tracks(manifest, str(self._folder))
        found: dict[str, list[AudioEntry]] = {}
        for split in SPLITS:
            if split in ("train", self._evaluate_on):
                listed = (tracks.find(*_editions(path)) for path in self._paths(split))
                found[split] = [entry for entry in listed if entry is not None]
        return divided(found, self._evaluate_on, {}, tracks, str(self._folder))

    def _paths(self, split: str) -> list[str]:
        file = self._folder / f"{self._subset}-{split}.tsv"
        header, *rows = read_lines(str(file)) or [""]
        columns = header.split("\t")
        if _PATH not in columns:
            raise DataError(f"{file}:1: the header has no column {_PATH}, as the lists of MTG-Jamendo have")
        place = columns.index(_PATH)
        cells = [
            row.split("\t") for row in rows if row.strip()
        ]  # tags, in the last column, have tabs between
        for number, row in enumerate(cells, 2):
            if len(row) <= place:
                raise DataError(f"{file}:{number}: has no {_PATH}")
        return [row[place] for row in cells]


def _editions(path: str) -> list[str]:
    stem = path.removesuffix(".mp3")
    return [path, *(f"{stem}.{extension}" for extension in ("low.mp3", "flac", "wav", "ogg", "opus"))]

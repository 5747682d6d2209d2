"""From the data settings to files for training and files for evaluation. Needs no torch."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.registry import build
from pipeline.data import SELECTIONS
from pipeline.data.bad_files import BadFile
from pipeline.data.folders import AudioFolders, joined
from pipeline.data.manifest import Manifest
from pipeline.data.pack.storage import is_pack
from pipeline.data.seeds import SEED_RANGE, derive_seed
from pipeline.data.shares import Share, share_of
from pipeline.data.synthetic import ensure_default_corpus
from pipeline.errors import DataError

_EVAL_FOLDERS = ("valid", "val", "validation", "eval", "test")
_CONVERT = "python -m pipeline.data.convert SOURCE"


@dataclass(frozen=True)
class Corpus:
    """Files for training and for evaluation, and what was found on the way."""

    train: Manifest
    evaluation: Manifest
    scanned: tuple[Manifest, ...]
    """The folders as they are: one if the files are divided by their names, two if by folder."""
    notes: tuple[str, ...]
    """Lines that the user should see once."""
    shares: tuple[Share, ...] = ()
    """Proportions in which the files for training are drawn; none: all alike."""

    @property
    def num_files(self) -> int:
        """Audio files in all, good and bad."""
        return sum(manifest.num_files for manifest in self.scanned)

    @property
    def bad_files(self) -> tuple[BadFile, ...]:
        """Bad files in all."""
        return tuple(bad for manifest in self.scanned for bad in manifest.bad_files)

    @property
    def unsupported(self) -> Mapping[str, int]:
        """Number of audio files in formats that cannot be read, by extension."""
        return _total_unsupported(self.scanned)


def prepare_corpus(
    data: Any, *, cache_dir: Path, report: Callable[[str], None], trust_cache: bool = False
) -> Corpus:
    """Generates the default corpus or scans the user's folder, and divides the files.

    Folders `train` and `valid` (or val, validation, eval, test) in the root are taken as they are; so is
    `data.eval_dataset.root`. Otherwise a file's name decides, so that a growing folder never moves a file
    from one side to the other, and all seeds are evaluated on the same files.

    `data.selection` divides by a list instead. A mix divides each of its sets so and joins them.

    Args:
        data: Settings with `source`, `root`, `selection`, `mix`, `extensions`, `eval_fraction`, `eval_dataset.root`.
        cache_dir: Folder for the manifest and the default corpus.
        report: Takes progress lines.
        trust_cache: Believe the manifest in the cache without listing the folder, because another process of
            this run has just brought it up to date.

    Raises:
        DataError: The root is missing, or nothing in it can be used.
    """
    folders = AudioFolders(data.extensions, cache_dir, report, trust_cache)
    if data.source == "mix":
        return _mixed(data, folders)
    if data.source == "default":
        root = ensure_default_corpus(cache_dir, report=report)
    else:
        root = _existing(data.root, "data.root")
    if data.source == "packed" and not is_pack(root):
        raise DataError(
            f"data.root={root} holds no pack; make one with python -m pipeline.data.pack SOURCE {root}, or read the "
            "audio as it is with data=folder"
        )
    eval_root = data.eval_dataset.root
    if eval_root is not None:
        eval_root = _existing(eval_root, "data.eval_dataset.root")
    return _of_root(
        _Place(root, "data.root", data.selection, "data.selection"), eval_root, data.eval_fraction, folders
    )


class _Place(NamedTuple):
    """A folder and its selection, with the keys that name them."""

    root: Path
    key: str
    selection: Mapping[str, Any] | None
    selection_key: str


def _of_root(place: _Place, eval_root: Path | None, eval_fraction: float, folders: AudioFolders) -> Corpus:
    """Divides one folder."""
    if place.selection is not None and place.selection["type"] != "Folders":
        return _selected(place, eval_root, eval_fraction, folders)
    eval_key = "data.eval_dataset.root" if eval_root is not None else place.key
    train_root, own_eval_root = _split_folders(place.root, folders)
    eval_root = eval_root or own_eval_root
    scanned = _usable(folders.manifest(train_root), place.key)
    if eval_root is None:
        return _divide_by_name(scanned, eval_fraction)
    if eval_root.resolve().is_relative_to(train_root.resolve()):
        return _divide_by_folder(scanned, eval_root, eval_key)
    evaluation = _usable(folders.manifest(eval_root), eval_key)
    return Corpus(scanned, evaluation, (scanned, evaluation), _notes(scanned, evaluation))


def _selected(place: _Place, eval_root: Path | None, eval_fraction: float, folders: AudioFolders) -> Corpus:
    """Divides one folder by a list."""
    assert place.selection is not None
    scanned = _usable(folders.manifest(place.root), place.key)
    division = build(place.selection, SELECTIONS, place.selection_key).divide(scanned)
    train, notes = scanned.select(division.train), (*_notes(scanned), *division.notes)
    if eval_root is not None:
        evaluation = _usable(folders.manifest(eval_root), "data.eval_dataset.root")
        corpus = Corpus(train, evaluation, (scanned, evaluation), notes)
    elif division.evaluation is not None:
        corpus = Corpus(train, scanned.select(division.evaluation), (scanned,), notes)
    else:
        corpus = replace(_divide_by_name(train, eval_fraction), scanned=(scanned,), notes=notes)
    share = share_of("all", 1.0, corpus.train.entries, division.weights)
    return replace(corpus, shares=(share,) if share.weights is not None else ())


def _mixed(data: Any, folders: AudioFolders) -> Corpus:
    """Divides each set of a mix, and joins them; each name leads the paths of its files."""
    parts: dict[str, tuple[float, Corpus]] = {}
    for name, part in data.mix.items():
        key = f"data.mix.{name}"
        place = _Place(_existing(part.root, f"{key}.root"), f"{key}.root", part.selection, f"{key}.selection")
        parts[name] = part.weight, _of_root(place, None, data.eval_fraction, folders)
    corpora = [corpus for _, corpus in parts.values()]
    shares = [
        Share(name, len(corpus.train.entries), weight, corpus.shares[0].weights if corpus.shares else None)
        for name, (weight, corpus) in parts.items()
    ]
    return Corpus(
        joined({name: corpus.train for name, (_, corpus) in parts.items()}),
        joined({name: corpus.evaluation for name, (_, corpus) in parts.items()}),
        tuple(manifest for corpus in corpora for manifest in corpus.scanned),
        tuple(f"{name}: {note}" for name, (_, corpus) in parts.items() for note in corpus.notes),
        tuple(shares),
    )


def _existing(root: str | None, key: str) -> Path:
    if root is None:
        raise DataError(f"{key} is not set; give a folder of audio, {key}=DIR, or use data=default")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(
            f"{key}={root} is not a folder; give an existing folder of audio, or use data=default"
        )
    return path


def _split_folders(root: Path, folders: AudioFolders) -> tuple[Path, Path | None]:
    """Folder for training and, if the root is divided by folders, the one for evaluation."""
    found = [root / name for name in _EVAL_FOLDERS if folders.has(root / name)]
    return (root / "train", found[0]) if found and folders.has(root / "train") else (root, None)


def _divide_by_name(manifest: Manifest, eval_fraction: float) -> Corpus:
    if len(manifest.entries) == 1:
        only = f"{manifest.entries[0].path} is the only usable file: it serves training and evaluation alike"
        return Corpus(manifest, manifest, (manifest,), (*_notes(manifest), only))
    places = {entry.path: derive_seed("split", entry.path) for entry in manifest.entries}
    by_share = sorted(manifest.entries, key=lambda entry: places[entry.path])
    limit = eval_fraction * SEED_RANGE
    num_below = sum(place < limit for place in places.values())
    num_eval = min(max(1, num_below), len(by_share) - 1)  # at least one file on each side
    held_out = {entry.path for entry in by_share[:num_eval]}
    train = manifest.select(entry for entry in manifest.entries if entry.path not in held_out)
    evaluation = manifest.select(entry for entry in manifest.entries if entry.path in held_out)
    return Corpus(train, evaluation, (manifest,), _notes(manifest))


def _divide_by_folder(manifest: Manifest, eval_root: Path, eval_key: str) -> Corpus:
    """Takes the files below `eval_root`, a folder of the manifest, out of training."""
    if eval_root.resolve() == manifest.root.resolve():
        same = f"{eval_key} is the training folder: the same files serve training and evaluation"
        return Corpus(manifest, manifest, (manifest,), (*_notes(manifest), same))
    below = f"{eval_root.resolve().relative_to(manifest.root.resolve())}{os.sep}"
    train = manifest.select(entry for entry in manifest.entries if not entry.path.startswith(below))
    evaluation = manifest.select(entry for entry in manifest.entries if entry.path.startswith(below))
    return Corpus(_usable(train, "data.root"), _usable(evaluation, eval_key), (manifest,), _notes(manifest))


def _usable(manifest: Manifest, key: str) -> Manifest:
    if manifest.entries:
        return manifest
    found = [f"{number} {extension} files" for extension, number in sorted(manifest.unsupported.items())]
    if manifest.bad_files:
        found.insert(0, f"{len(manifest.bad_files)} bad files (first: {manifest.bad_files[0]})")
    raise DataError(
        f"{key}={manifest.root} holds no usable audio ({', '.join(found) or 'no audio files'}); "
        f"give a folder with files of data.extensions, or convert: {_CONVERT}"
    )


def _notes(*manifests: Manifest) -> tuple[str, ...]:
    unsupported = _total_unsupported(manifests)
    if not unsupported:
        return ()
    kinds = ", ".join(f"{number} {extension}" for extension, number in sorted(unsupported.items()))
    left_out = f"{unsupported.total()} files in unsupported formats are left out ({kinds})"
    return (f"{left_out}; convert them: {_CONVERT}",)


def _total_unsupported(manifests: Iterable[Manifest]) -> Counter[str]:
    total: Counter[str] = Counter()
    for manifest in manifests:
        total.update(manifest.unsupported)
    return total

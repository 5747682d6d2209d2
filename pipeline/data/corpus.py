"""From the data settings to files for training and files for evaluation. Needs no torch."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.bad_files import BadFile
from pipeline.data.folders import AudioFolders
from pipeline.data.manifest import Manifest
from pipeline.data.pack.storage import is_pack
from pipeline.data.seeds import SEED_RANGE, derive_seed
from pipeline.data.synthetic import ensure_default_corpus
from pipeline.errors import DataError

_EVAL_FOLDERS = ("valid", "val", "validation", "eval", "test")
_CONVERT = "ffmpeg -i song.m4a song.flac"


@dataclass(frozen=True)
class Corpus:
    """Files for training and for evaluation, and what was found on the way."""

    train: Manifest
    evaluation: Manifest
    scanned: tuple[Manifest, ...]
    """The folders as they are: one if the files are divided by their names, two if by folder."""
    notes: tuple[str, ...]
    """Lines that the user should see once."""

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

    Args:
        data: Settings with `source`, `root`, `extensions`, `eval_fraction`, `eval_dataset.root`.
        cache_dir: Folder for the manifest and the default corpus.
        report: Takes progress lines.
        trust_cache: Believe the manifest in the cache without listing the folder, because another process of
            this run has just brought it up to date.

    Raises:
        DataError: The root is missing, or nothing in it can be used.
    """
    if data.source == "default":
        root = ensure_default_corpus(cache_dir, report=report)
    else:
        root = _existing(data.root, "data.root")
    if data.source == "packed" and not is_pack(root):
        raise DataError(
            f"data.root={root} holds no pack; make one with python -m pipeline.data.pack SOURCE {root}, or read the "
            "audio as it is with data=folder"
        )
    folders = AudioFolders(data.extensions, cache_dir, report, trust_cache)
    train_root, eval_root = _split_folders(root, folders)
    eval_key = "data.root"
    if data.eval_dataset.root is not None:
        eval_key = "data.eval_dataset.root"
        eval_root = _existing(data.eval_dataset.root, eval_key)
    scanned = _usable(folders.manifest(train_root), "data.root")
    if eval_root is None:
        return _divide_by_name(scanned, data.eval_fraction)
    if eval_root.resolve().is_relative_to(train_root.resolve()):
        return _divide_by_folder(scanned, eval_root, eval_key)
    evaluation = _usable(folders.manifest(eval_root), eval_key)
    return Corpus(scanned, evaluation, (scanned, evaluation), _notes(scanned, evaluation))


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
    by_share = sorted(manifest.entries, key=lambda entry: derive_seed("split", entry.path))
    limit = eval_fraction * SEED_RANGE
    num_below = sum(derive_seed("split", entry.path) < limit for entry in by_share)
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

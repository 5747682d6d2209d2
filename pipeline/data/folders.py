"""Folders of audio and packs alike: what is in them, whichever they are. Needs no torch."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.data.manifest import Manifest, load, scan
from pipeline.data.pack.storage import is_pack, open_pack
from pipeline.data.storage import FolderOf, Union


class AudioFolders:
    """Gives the manifest of a folder of audio, of a pack, or of a folder inside a pack."""

    def __init__(
        self, extensions: Sequence[str], cache_dir: Path, report: Callable[[str], None], trust_cache: bool
    ) -> None:
        """Opens nothing yet.

        Args:
            extensions: Extensions of audio files to take in.
            cache_dir: Folder of the manifests.
            report: Takes progress lines.
            trust_cache: Believe a manifest in the cache without listing its folder.
        """
        self._extensions = extensions
        self._cache_dir = cache_dir
        self._report = report
        self._trusts = trust_cache
        self._packs: dict[Path, Manifest] = {}

    def has(self, folder: Path) -> bool:
        """Whether it is a folder, on the disk or in a pack."""
        if folder.is_dir():
            return True
        below = f"{folder.name}/"
        return is_pack(folder.parent) and any(
            entry.path.startswith(below) for entry in self._pack(folder.parent).entries
        )

    def manifest(self, folder: Path) -> Manifest:
        """Returns what is in a folder.

        Raises:
            DataError: The cache folder cannot be written, or the index of a pack cannot be read.
        """
        if is_pack(folder):
            return self._pack(folder)
        if is_pack(folder.parent):
            return self._folder_of_pack(folder.parent, folder.name)
        known = load(folder, self._extensions, cache_dir=self._cache_dir) if self._trusts else None
        return known or scan(folder, self._extensions, cache_dir=self._cache_dir, report=self._report)

    def _pack(self, folder: Path) -> Manifest:
        if folder not in self._packs:
            self._packs[folder] = open_pack(folder)
        return self._packs[folder]

    def _folder_of_pack(self, pack: Path, name: str) -> Manifest:
        """Returns the manifest that a folder of the originals would have."""
        whole, below = self._pack(pack), f"{name}/"
        entries = (
            replace(entry, path=entry.path.removeprefix(below))
            for entry in whole.entries
            if entry.path.startswith(below)
        )
        bad = tuple(found for found in whole.bad_files if found.path.startswith(str(pack / below)))
        return Manifest(pack / name, tuple(entries), bad, {}, storage=FolderOf(whole.storage, below))


def joined(manifests: Mapping[str, Manifest]) -> Manifest:
    """Joins manifests under names, which lead the paths: `name/path`."""
    entries = (
        replace(entry, path=f"{name}/{entry.path}")
        for name, manifest in manifests.items()
        for entry in manifest.entries
    )
    return Manifest(
        Path(os.path.commonpath([manifest.root.absolute() for manifest in manifests.values()])),
        tuple(entries),
        tuple(bad for manifest in manifests.values() for bad in manifest.bad_files),
        sum((Counter(manifest.unsupported) for manifest in manifests.values()), Counter()),
        storage=Union({name: manifest.storage for name, manifest in manifests.items()}),
    )

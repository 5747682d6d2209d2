"""The audio of a run, then and now."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.data.content import PARTS
from pipeline.data.corpus import prepare_corpus
from pipeline.errors import DataError, LaunchError
from pipeline.launch import data_record
from pipeline.launch.reproduction.finding import Finding, different, same, unknown, unusable

_log = logging.getLogger(__name__)


def usable_cache(config: Config, spare: Path) -> Path:
    """Return the folder of the cache, or a spare one where that cannot be written."""
    wanted = Path(config.data.cache_dir)
    nearest = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    return wanted if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) else spare


def check_data(run_dir: Path, record: Mapping[str, Any], config: Config) -> Finding:
    """Compare every audio file of the run, its content included.

    Args:
        run_dir: the run.
        record: its provenance.
        config: says where the audio is now.
    """
    then = record.get("data") or {}
    try:
        recorded = data_record.read(run_dir)
    except LaunchError as error:
        return different("data", str(error))
    if recorded is None and then:
        return different("data", f"{run_dir / data_record.DATA}: lost, so the data cannot be checked")
    if recorded is None:
        return unknown("data", "not recorded: the run was begun by an earlier version")
    if then.get("files", len(recorded)) != len(recorded):
        lost = f"damaged, it names {len(recorded)} of {then['files']} files"
        return different("data", f"{run_dir / data_record.DATA}: {lost}, so the data cannot be checked")
    try:
        corpus = prepare_corpus(config.data, cache_dir=Path(config.data.cache_dir), report=_log.info)
    except DataError as error:
        return unusable("data", str(error), "reproduce --data DIR finds it in another folder")
    difference = data_record.first_difference(recorded, corpus, _log.info)
    if difference is not None:
        return different("data", difference)
    root, now = then.get("train_root"), str(corpus.train.root)
    notes = [f"it was in {root}, and is in {now}"] if root != now else []
    if parts := sum(file.content.startswith(f"{PARTS}:") and not file.is_pending for file in recorded):
        notes.append(f"of {parts} large ones the size, the beginning, the middle and the end were compared")
    if num_pending := sum(file.is_pending for file in recorded):
        unread = f"the run ended before the content of {num_pending} of {len(recorded)} files was recorded"
        return unknown("data", f"{unread}: their names, sizes and lengths are the same", *notes)
    return same("data", f"{len(recorded)} files with the same content", *notes)

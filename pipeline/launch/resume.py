"""Continuing a run: its own configuration, and the few changes that leave it the same run."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.config import compose
from pipeline.config.atomic import write_text
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.launch.edited import edited_note
from pipeline.launch.identity import differences, is_changeable
from pipeline.launch.preemption import RESUME_EXIT_CODE
from pipeline.launch.provenance import PROVENANCE

_log = logging.getLogger(__name__)
_CHANGES = "changes.yaml"
_NEWEST = "last.ckpt"
_VALID = "valid: auto, never, or the directory of a run, which is printed at its start and end"
_REPAIR = "mend it, or remove it to go on without the changes of earlier resumes"


def locate(path: Path) -> Path:
    """Return the run directory that a path stands for: itself, or that of its newest checkpoint.

    Raises:
        ConfigError: no run is there, or the path names a checkpoint that a run does not go on from.
    """
    try:
        return _locate(path)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ConfigError(f"run.resume={path}: {error.strerror}; {_VALID}") from None


def _locate(path: Path) -> Path:
    folder = path
    if path.suffix == ".ckpt" and path.is_file():
        if path.name != _NEWEST:
            raise ConfigError(
                f"run.resume={path}: run.resume goes on from the newest checkpoint (give the run directory); "
                f"run.init_from={path} starts a new run from its weights"
            )
        folder = path.parent.parent
        if (path.parent / "config.yaml").is_file():  # a ckpt_dir of its own, or the run directory itself
            folder = _run_with_records_in(path.parent)
    elif path.name != ".hydra" and (path / "config.yaml").is_file():
        run_dir = _run_with_records_in(path)
        folder = run_dir if (run_dir / "config.yaml").is_file() else path
    missing = [name for name in ("config.yaml", PROVENANCE) if not (folder / name).is_file()]
    if missing:
        found = "no such directory" if not path.exists() else "a file" if path.is_file() else "a directory"
        raise ConfigError(f"run.resume={path}: {found}, and no run: {folder} holds no {missing[0]}; {_VALID}")
    return folder


def _run_with_records_in(folder: Path) -> Path:
    """Return the run that a folder with a config.yaml belongs to: itself, or the run whose ckpt_dir it is."""
    stored = compose.read(folder / "config.yaml")
    ckpt_dir, origin = stored.trainer.trainer.ckpt_dir, Path(str(stored.run.dir))
    if ckpt_dir == str(folder):
        return origin
    within = _within_run(ckpt_dir, origin)
    if within is not None and folder.parts[-len(within.parts) :] == within.parts:
        moved = folder.parents[len(within.parts) - 1]
        return moved if (moved / "config.yaml").is_file() else folder
    return folder


def _within_run(place: str | None, run_dir: Path) -> Path | None:
    """Return a place relative to the run directory that it lies in, None if it lies elsewhere."""
    if place is None or place == str(run_dir) or not Path(place).is_relative_to(run_dir):
        return None
    return Path(place).relative_to(run_dir)


def load(run_dir: Path) -> Config:
    """Return the configuration of a run as it is continued: config.yaml with the changes of earlier resumes.

    The directory is the run, wherever it was moved or copied to, with the folders of the run that lie in it.

    Raises:
        ConfigError: no run is there, what an earlier resume has changed cannot be read, or the checkpoints lie
            elsewhere and belong to the run it was copied from.
    """
    stored = compose.read(run_dir / "config.yaml")
    origin, ckpt_dir = Path(str(stored.run.dir)), stored.trainer.trainer.ckpt_dir
    within = _within_run(ckpt_dir, origin)
    is_apart = ckpt_dir is not None and (within is None or ckpt_dir == str(run_dir))
    if is_apart and origin != run_dir and origin.exists():
        raise ConfigError(
            f"run.resume={run_dir}: a copy of {origin}, whose checkpoints are in "
            f"trainer.trainer.ckpt_dir={ckpt_dir}; resume {origin}, or use run.init_from"
        )
    tree = stored.model_dump()
    tree["run"]["dir"] = str(run_dir)
    if not is_apart and within is not None:
        tree["trainer"]["trainer"]["ckpt_dir"] = str(run_dir / within)
    remembered = _remembered(run_dir)
    for key, value in remembered.items():
        _set(tree, key, value, run_dir / _CHANGES)
    try:
        return compose.parse(tree)
    except ConfigError as error:
        raise ConfigError(f"{run_dir / _CHANGES}: {error}") from None


def change(run_dir: Path, wanted: Config, given: Iterable[str] | None) -> tuple[Config, dict[str, Any]]:
    """Apply the command line to the run's own configuration.

    Args:
        run_dir: the run.
        wanted: what the command line composed.
        given: dotted keys that the user wrote and that count; None: all, the command describes the run.

    Returns:
        The configuration to go on with, and every change since the run began.

    Raises:
        ConfigError: a key that would make it another run.
    """
    config, changes = load(run_dir), _remembered(run_dir)
    if (note := edited_note(run_dir)) is not None:
        _log.info("note: %s", note)
    tree = config.model_dump()
    _refuse_another_run(run_dir, config, wanted, given or ())
    if given is not None and os.environ.get("EULER_CACHE"):  # this machine's
        given = {*given, "data.cache_dir"}
    for key, old, new in differences(config, wanted):
        if given is not None and not any(_within(key, asked) or _within(asked, key) for asked in given):
            continue
        if not is_changeable(key):
            raise ConfigError(
                f"{key}: cannot change in run.resume={run_dir} (it is {old!r}, asked for {new!r}); a resumed run keeps "
                "its model, data, losses, optimiser and seed. "
                "Valid: horizon (max_epochs, max_steps), hardware, logging; run.init_from starts a new run"
            )
        _log.info("resume: %s was %r, now %r", key, old, new)
        if key == "container.image":
            _log.info("note: what another image computes may differ in its last bits")
        _set(tree, key, new, run_dir / _CHANGES)
        changes[key] = new
    tree["run"]["resume"] = str(run_dir)
    return compose.parse(tree), changes


def _refuse_another_run(run_dir: Path, config: Config, wanted: Config, given: Iterable[str]) -> None:
    """Refuse what is no difference of values and would be passed over: another place, another name, a recipe."""
    places = {"run.dir": (str(run_dir), wanted.run.dir), "run.name": (config.run.name, wanted.run.name)}
    for key in given:
        old, new = places[key] if key in places else (None, None)
        if old != new or key.split(".")[0] not in Config.model_fields:
            raise ConfigError(
                f"{key}: cannot change in run.resume={run_dir}; leave it out, or leave run.resume out for a new run"
            )


def _within(key: str, block: str) -> bool:
    return f"{key}.".startswith(f"{block}.")


@contextmanager
def remembering(run_dir: Path, checkpoints: Path, changes: dict[str, Any]) -> Iterator[None]:
    """Keep the changes for the next resume; config.yaml stays as it was written.

    If what is done within fails before the run has come further, they are taken back: a change that a checkpoint
    refuses must not be refused for ever.

    Args:
        run_dir: the run.
        checkpoints: folder of its checkpoints.
        changes: every change since the run began.
    """
    path, newest = run_dir / _CHANGES, checkpoints / _NEWEST
    former = path.read_text(encoding="utf-8") if path.exists() else None
    before, succeeded = _version(newest), False
    if changes:
        write_text(path, OmegaConf.to_yaml(changes))
    try:
        yield
        succeeded = True
    except SystemExit as stop:
        succeeded = stop.code in (None, 0, RESUME_EXIT_CODE)
        raise
    finally:
        if changes and not succeeded and _version(newest) in (None, before):
            _put_back(path, former)


def _put_back(path: Path, former: str | None) -> None:
    if former is None:
        path.unlink()
    else:
        write_text(path, former)


def _version(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced by another of its name; None for no file."""
    if not path.exists():
        return None
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _remembered(run_dir: Path) -> dict[str, Any]:
    path = run_dir / _CHANGES
    try:
        stored = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())}); {_REPAIR}") from None
    if not isinstance(stored, dict):
        raise ConfigError(f"{path}: holds no keys with values; {_REPAIR}")
    return {str(key): value for key, value in stored.items()}


def _set(tree: dict[str, Any], key: str, value: Any, source: Path) -> None:
    block, (*parents, leaf) = tree, key.split(".")
    for part in parents:
        block = block[part] if isinstance(block, dict) and part in block else {}
    if not isinstance(block, dict) or leaf not in block:
        raise ConfigError(f"{source}: {key}: this version has no such key; {_REPAIR}")
    block[leaf] = value

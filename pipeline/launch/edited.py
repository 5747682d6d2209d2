"""Whether the config.yaml of a run is still the one that the run began with."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.launch.provenance import read_provenance

_DIGEST = "config_sha256"
_CONFIG = "config.yaml"
_ABSENT = "absent"


def edited_note(run_dir: Path) -> str | None:
    """Return a line if `config.yaml` was edited, with the keys if Hydra's copy still tells them.

    Args:
        run_dir: the run; one that was begun before checksums were kept gives no line.
    """
    record = read_provenance(run_dir)
    if record is None or not is_edited(run_dir, record):  # lost or damaged: it decides nothing
        return None
    keys = [key for key, _, _ in edited_values(run_dir, record) or ()]
    return f"{run_dir / _CONFIG} was edited since the run began{': ' + ', '.join(keys) if keys else ''}"


def is_edited(run_dir: Path, record: Mapping[str, Any]) -> bool | None:
    """Whether `config.yaml` is another file than the one that was written; None where no checksum was kept.

    Args:
        run_dir: the run.
        record: its provenance.
    """
    return record[_DIGEST] != _digest(run_dir / _CONFIG) if _DIGEST in record else None


def edited_values(run_dir: Path, record: Mapping[str, Any]) -> list[tuple[str, Any, Any]] | None:
    """Return dotted key, value as written and value now of what was edited; None where no copy tells it."""
    copy = run_dir / ".hydra" / _CONFIG
    if not copy.is_file() or _digest(copy) != record[_DIGEST]:
        return None
    try:
        trees = [OmegaConf.to_container(OmegaConf.load(path)) for path in (copy, run_dir / _CONFIG)]
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError):  # refused where it is read
        return None
    return list(_differing("", *trees))


def _differing(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            inner = f"{key}.{name}" if key else str(name)
            if name in old and name in new:
                yield from _differing(inner, old[name], new[name])
            else:
                yield inner, old.get(name, _ABSENT), new.get(name, _ABSENT)
    elif old != new:
        yield key or "all of it", old, new


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

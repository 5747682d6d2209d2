"""Whether the config.yaml of a run is still the one that the run began with."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.launch.provenance import PROVENANCE

_DIGEST = "config_sha256"


def edited_note(run_dir: Path) -> str | None:
    """Return a line if `config.yaml` was edited, with the keys if Hydra's copy still tells them.

    Args:
        run_dir: the run; one that was begun before checksums were kept gives no line.
    """
    try:
        record = json.loads((run_dir / PROVENANCE).read_bytes())
    except (OSError, ValueError):  # lost or damaged: it decides nothing
        return None
    config = run_dir / "config.yaml"
    if not isinstance(record, dict) or _DIGEST not in record or record[_DIGEST] == _digest(config):
        return None
    keys = list(_edited_keys(run_dir, record[_DIGEST]))
    return f"{config} was edited since the run began{': ' + ', '.join(keys) if keys else ''}"


def _edited_keys(run_dir: Path, digest: str) -> Iterator[str]:
    copy = run_dir / ".hydra" / "config.yaml"
    if not copy.is_file() or _digest(copy) != digest:
        return
    try:
        trees = [OmegaConf.to_container(OmegaConf.load(path)) for path in (copy, run_dir / "config.yaml")]
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError):  # refused where it is read
        return
    yield from _differing("", *trees)


def _differing(key: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            inner = f"{key}.{name}" if key else str(name)
            if name in old and name in new:
                yield from _differing(inner, old[name], new[name])
            else:
                yield inner
    elif old != new:
        yield key or "all of it"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

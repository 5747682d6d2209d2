"""What a run trains with apart from its configuration: image, lock, packages, variables; read without torch."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.launch.image import image

LOCK_STAMP = "euler-lock.json"
"""File of a virtual environment: the lock that it was installed from."""

_LOCKS = Path(__file__).resolve().parents[2] / "containers"
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)
_VARIABLES = re.compile(
    r"(OMP|MKL|KMP|GOMP|OPENBLAS|DNNL|ONEDNN|ATEN|CUBLAS|CUDNN|CUDA|NCCL|NVIDIA|TORCH|TORCHINDUCTOR|PYTORCH|GLOO)_\w+"
    r"(?<!_CACHE_DIR)"
)
"""Environment variables that libraries of numbers read; where they keep what they have made changes no number."""


def packages() -> dict[str, str]:
    """Return name -> version of all installed packages; of one that is found twice, the one that is imported."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata  # parsed at each look
        if metadata["Name"]:
            found.setdefault(_plain(metadata["Name"]), metadata["Version"])
    return dict(sorted(found.items()))


def plain_names(versions: Mapping[str, str]) -> dict[str, str]:
    """Return package -> version under the names that `packages` gives."""
    return {_plain(name): version for name, version in versions.items()}


def python_version() -> str:
    """Return the version of Python."""
    return platform.python_version()


def variables() -> dict[str, str]:
    """Return the environment variables that can change numbers."""
    return {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}


def lock(installed: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the lock that the packages were installed from; None where nothing tells it.

    Args:
        installed: package -> version.

    Returns:
        `name` and `sha256` of the lock file, and `unlike`: what differs from its pins in the installed packages, None
        where the file is not at hand.
    """
    facts = _stamp() or _lock_of_image()
    if facts is None:
        return None
    pinned = pins(str(facts["name"]), str(facts["sha256"]))
    return {**facts, "unlike": None if pinned is None else _unlike(pinned, installed)}


def pins(name: str, sha256: str | None = None) -> dict[str, str] | None:
    """Return package -> version of a lock file of this checkout; None if there is none, or not the one asked for.

    Args:
        name: of the file, like requirements-cpu.lock.
        sha256: of its content; None takes any.
    """
    try:
        content = (_LOCKS / Path(name).name).read_bytes()
    except OSError:
        return None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        return None
    return {_plain(package): version for package, version in _PIN.findall(content.decode())}


def _stamp() -> dict[str, Any] | None:
    try:
        stamp = json.loads((Path(sys.prefix) / LOCK_STAMP).read_bytes())
        return {"name": stamp["lock"], "sha256": stamp["sha256"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _lock_of_image() -> dict[str, Any] | None:
    built = image() or {}
    return {"name": built["lock"], "sha256": built.get("lock_sha256")} if built.get("lock") else None


def _unlike(pinned: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {installed.get(name, 'is missing')} (lock: {version})"
        for name, version in sorted(pinned.items())
        if installed.get(name) != version
    ]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

"""What a run was made of: code, packages, machine, seed, command line."""

import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.config.atomic import write_text

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = "provenance.json"
REVISION = "revision.json"
"""What a copy of the code says about the checkout that it was taken from."""


def write_provenance(folders: Iterable[Path], config_file: Path, seed: int, overrides: Sequence[str]) -> None:
    """Write `provenance.json`, and where the checkout was changed the difference as `uncommitted.diff`.

    Args:
        folders: the run directory, and those that hold a copy of its records.
        config_file: what `config.yaml` is to hold; its checksum tells later whether that was edited.
        seed: of the run.
        overrides: the command line.
    """
    code = revision()
    diff = code["diff"]
    record = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(sys.orig_argv),
        "overrides": list(overrides),
        "directory": os.getcwd(),
        "seed": seed,
        "config_sha256": hashlib.sha256(config_file.read_bytes()).hexdigest(),
        "git": {"commit": code["commit"], "dirty": bool(diff) if diff is not None else None},
        "python": platform.python_version(),
        "packages": dict(sorted((d.name, d.version) for d in importlib.metadata.distributions() if d.name)),
        "hardware": hardware(),
    }
    for folder in folders:
        if diff:
            write_text(folder / "uncommitted.diff", diff + "\n")
        write_text(folder / PROVENANCE, json.dumps(record, indent=2) + "\n")


def revision() -> dict[str, str | None]:
    """Return the commit of the code and what differs from it; None for both where there is no git or no checkout.

    A copy of the code tells it from its record: the folder that it lies in may be part of a checkout as well.
    """
    record = ROOT / REVISION
    if record.is_file():
        stored: dict[str, str | None] = json.loads(record.read_bytes())
        return stored
    return {"commit": _git("rev-parse", "HEAD"), "diff": _git("diff", "HEAD")}


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode("utf-8", errors="replace").strip()


def hardware() -> dict[str, Any]:
    """Return what decides how numbers are rounded here: host, processors, devices, libraries."""
    import torch  # a job is about to start: the devices are torch's to tell

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "host": socket.gethostname(),
        "machine": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )

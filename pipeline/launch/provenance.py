"""What a run was made of: code, packages, machine, seed, command line."""

import hashlib
import json
import os
import platform
import socket
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.config.atomic import write_text
from pipeline.launch import checkout, surroundings
from pipeline.launch.code import code_digest
from pipeline.launch.image import image

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = "provenance.json"
UNCOMMITTED = "uncommitted.diff"
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
    facts, diff = describe_now()
    record = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(sys.orig_argv),
        "overrides": list(overrides),
        "directory": os.getcwd(),
        "seed": seed,
        "config_sha256": hashlib.sha256(config_file.read_bytes()).hexdigest(),
        **facts,
    }
    for folder in folders:
        keep_diff(folder, diff)
        write_text(folder / PROVENANCE, json.dumps(record, indent=2) + "\n")


def read_provenance(run_dir: Path) -> dict[str, Any] | None:
    """Return the record of a run; None where it is lost or damaged."""
    try:
        record = json.loads((run_dir / PROVENANCE).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def describe_now() -> tuple[dict[str, Any], str | None]:
    """Return what a run that begins here and now is made of, and the uncommitted changes of its code."""
    code, installed = revision(), surroundings.packages()
    diff = code["diff"]
    git = {
        "commit": code["commit"],
        "dirty": bool(diff) if diff is not None else None,
        "diff_sha256": checkout.diff_digest(diff),
        "code_sha256": code_digest(ROOT),
    }
    facts = {
        "git": git,
        "image": image(),
        "lock": surroundings.lock(installed),
        "python": platform.python_version(),
        "packages": installed,
        "variables": surroundings.variables(),
        "hardware": hardware(),
    }
    return facts, diff


def keep_diff(folder: Path, diff: str | None) -> None:
    """Write the uncommitted changes beside the record of a run."""
    if diff:
        write_text(folder / UNCOMMITTED, diff if diff.endswith("\n") else diff + "\n")
    else:
        (folder / UNCOMMITTED).unlink(missing_ok=True)


def revision() -> dict[str, str | None]:
    """Return the commit of the code and what differs from it; None for both where there is no git or no checkout.

    A copy of the code tells it from its record: the folder that it lies in may be part of a checkout as well.
    """
    record = ROOT / REVISION
    if record.is_file():
        stored: dict[str, str | None] = {"commit": None, "diff": None, **json.loads(record.read_bytes())}
        return stored
    return {"commit": checkout.commit(ROOT), "diff": checkout.changes(ROOT)}


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
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": _nccl_version(),
    }


def driver() -> str | None:
    """Return the version of the NVIDIA driver; None where it is not shown."""
    try:
        line = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    # NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu ...
    return next((word for word in line.split() if word[0].isdigit() and "." in word), None)


def _nccl_version() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )

"""The starts of a run: where and with what each of them trained, and whether that can change its last bits."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.launch.provenance import hardware, revision
from pipeline.training.form import PLAIN

_FILE = "sessions.jsonl"
ROUNDING = {
    "cpu": "CPU",
    "gpus": "GPU",
    "torch": "torch",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "world_size": "number of processes",
    "torch_threads": "number of threads",
    "form": "form of computing",
}
"""What changes the order or the width of sums."""


def record_session(
    run_dir: Path, world_size: int, use_gpu: bool, step: int, more: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Any], list[str]]:
    """Append this start to the run's `sessions.jsonl`; the first rank calls it.

    Args:
        run_dir: the run.
        world_size: processes.
        use_gpu: whether they train on GPUs.
        step: optimiser steps that the run has behind it; 0 is a new beginning.
        more: what else is known about it.

    Returns:
        The record, and a line if the start differs from those before it in what decides how numbers are rounded,
        else none.
    """
    path = run_dir / _FILE
    session = {"form": str(PLAIN), **_describe(world_size, use_gpu, step), **more}
    with path.open("a+b") as stream:
        stream.seek(0)
        content = stream.read()
        cut_short = b"\n" if content and not content.endswith(b"\n") else b""  # a kill or a full disk
        stream.write(cut_short + json.dumps(session).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    return session, _notes([*_readable(content), session])


def _describe(world_size: int, use_gpu: bool, step: int) -> dict[str, Any]:
    import torch  # a rank is about to train

    machine = hardware()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        "commit": revision()["commit"],
        "torch": torch.__version__,
        "world_size": world_size,
        **machine,
        "gpus": machine["gpus"] if use_gpu else [],
    }


def _readable(content: bytes) -> list[dict[str, Any]]:
    sessions = []
    for line in content.splitlines():
        try:
            session = json.loads(line)
        except ValueError:  # the line that was cut short
            continue
        if isinstance(session, dict):
            session.setdefault("form", str(PLAIN))  # an earlier version knew no other
        if isinstance(session, dict) and session.keys() >= {"step", *ROUNDING}:  # none of another origin
            sessions.append(session)
    return sessions


def _notes(sessions: list[dict[str, Any]]) -> list[str]:
    """Compare the last session with all that have trained the same weights."""
    first = max((index for index, session in enumerate(sessions) if session["step"] == 0), default=0)
    changes = []
    for key, name in ROUNDING.items():
        values = dict.fromkeys(_shown(session[key]) for session in sessions[first:])
        if len(values) > 1:
            changes.append(f"{name} ({', then '.join(values)})")
    if not changes:
        return []
    return [
        f"this run has changed its {', '.join(changes)}: its result equals that of an uninterrupted run "
        "up to rounding, not bit for bit"
    ]


def _shown(value: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, value))) or "none" if isinstance(value, list) else str(value)

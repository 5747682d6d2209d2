"""What a run says about its own first steps: the start that they stem from, how far they compare, their losses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import LaunchError
from pipeline.launch.sessions import ROUNDING
from pipeline.launch.slurm import facts
from pipeline.training.callbacks import LOSSES, LOSSES_WRITTEN_EVERY, RECORDED_STEPS

Losses = list[list[str]]
"""For each step the losses of its batches, as hexadecimal floats."""

_REASONS = {
    **ROUNDING,
    "commit": "commit",
    "diff_sha256": "uncommitted changes",
    "packages_sha256": "packages",
    "data_sha256": "data",
    "strategy": "strategy",
    "batch_size": "batch size",
    "accumulate": "accumulation",
}
"""What makes steps after a resume incomparable with a repetition that keeps what the run began with."""

_SHAPES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "image": (dict, ()),
    "lock": (dict, ("name", "sha256")),
    "packages": (dict, ()),
    "git": (dict, ()),
    "data": (dict, ()),
    "init_from": (dict, ("path", "sha256")),
    "attempts": (list, ()),
}
"""What of a record is read as more than a text: its type, and what is in it for certain."""

_SAVED = ("finished", "stopped")
"""States of a run that has left training with all its losses written."""

_OF_BEGINNING = ("world_size", "gpus", "torch_threads")


@dataclass(frozen=True)
class Beginning:
    """The start of a run that its first steps stem from.

    Attributes:
        attempt: its record.
        newest: the record of the newest start, which tells where the data lies.
        comparable_steps: steps until the run went on with something else; None where it never did.
        change: what that was.
    """

    attempt: Mapping[str, Any]
    newest: Mapping[str, Any]
    comparable_steps: int | None
    change: str


def check_shape(record: Mapping[str, Any]) -> None:
    """Refuse a record that was not written by a run.

    Raises:
        LaunchError: with the key.
    """
    for key, (kind, inner) in _SHAPES.items():
        value: Any = record.get(key)
        is_whole = isinstance(value, kind) and all(name in value for name in inner)
        if value is not None and not is_whole:
            raise LaunchError(f"{key} is damaged; the rest proves nothing without it")
    beginning = find_beginning(record)
    lost = [name for name in _OF_BEGINNING if beginning is not None and name not in beginning.attempt]
    if lost:
        raise LaunchError(f"attempts is damaged: {', '.join(lost)} of the start is lost")


def find_beginning(record: Mapping[str, Any]) -> Beginning | None:
    """Find the start that trained the first steps; None for a run that recorded no starts."""
    attempts = [attempt for attempt in record.get("attempts") or () if isinstance(attempt, dict)]
    first = max((index for index, attempt in enumerate(attempts) if attempt.get("step") == 0), default=None)
    if first is None:
        return None
    began = attempts[first]
    for attempt in attempts[first + 1 :]:
        changed = [name for key, name in _REASONS.items() if _differs(began, attempt, key)]
        if changed:
            return Beginning(began, attempts[-1], int(attempt["step"]), ", ".join(changed))
    return Beginning(began, attempts[-1], None, "")


def _differs(began: Mapping[str, Any], attempt: Mapping[str, Any], key: str) -> bool:
    """Whether a later start says something else than the first; a hash of data that were not read says nothing."""
    if key == "data_sha256" and any(key in start and start[key] is None for start in (began, attempt)):
        return False
    return bool(attempt.get(key) != began.get(key))


def read_losses(run_dir: Path) -> Losses | None:
    """Return the losses of the first steps; None where none are recorded.

    Raises:
        LaunchError: the record is damaged.
    """
    path = run_dir / LOSSES
    if not path.is_file():
        return None
    losses: Losses = []
    try:
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            if row["step"] != len(losses) + 1 or not row["loss"]:
                raise ValueError(row["step"])
            for loss in row["loss"]:
                float.fromhex(loss)
            losses.append(list(row["loss"]))
    except (ValueError, LookupError, TypeError):
        raise LaunchError(
            f"{path}: damaged in line {len(losses) + 1}, so the run cannot be compared with"
        ) from None
    return losses


def lost_steps(run_dir: Path, losses: Losses) -> str | None:
    """Return what is missing of the losses that the run has written; None where nothing is, or it cannot be told.

    Args:
        run_dir: the run.
        losses: that are recorded.
    """
    progress = facts.read(run_dir).progress
    step = progress.get("step")
    if not isinstance(step, int):
        return None
    written = min(step, RECORDED_STEPS)
    if progress["state"] not in _SAVED:  # a kill or an error takes what was not written yet with it
        written = min(step - 1, RECORDED_STEPS) // LOSSES_WRITTEN_EVERY * LOSSES_WRITTEN_EVERY
    if len(losses) >= written:
        return None
    return (
        f"{run_dir / LOSSES}: damaged, it has {len(losses)} steps of the first {written} that the run trained"
    )


def first_difference(recorded: Losses, repeated: Losses) -> str | None:
    """Return at which step the losses of a repetition differ, and how; None where they are the same to the bit."""
    for step, (old, new) in enumerate(zip(recorded, repeated, strict=False), 1):
        if old != new:
            return f"step {step}: the loss was {_shown(old)}, is {_shown(new)}"
    return None


def _shown(losses: list[str]) -> str:
    return ", ".join(f"{float.fromhex(loss)!r} ({loss})" for loss in losses)

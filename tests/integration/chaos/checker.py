"""Tells whether two runs ended alike, bit for bit: `python checker.py RUN_A RUN_B`.

Compares checkpoints (last.ckpt and best.ckpt: weights, optimiser, scheduler, position, precision, callbacks) and
metrics.csv and losses.jsonl. Every difference is a line; the exit code is 1 where there is one. It shares no code with
the training and none with what starts and kills the runs.
"""

import csv
import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

# What two equal runs may differ in, and why.
EXEMPT: dict[str, str] = {}
REQUIRED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step", "epoch")
CHECKPOINTS = ("last.ckpt", "best.ckpt")
# The newest checkpoint but one is whichever the clock caused.
UNCOMPARED_FILES = ("previous.ckpt",)


def differences(first: Any, second: Any, name: str = "") -> Iterator[str]:
    """Compare two values of a checkpoint, down to the bits of every number in them."""
    if name in EXEMPT:
        return
    if type(first) is not type(second):
        yield f"{name}: {type(first).__name__} against {type(second).__name__}"
    elif isinstance(first, torch.Tensor):
        yield from _tensor_differences(first, second, name)
    elif isinstance(first, Mapping):
        yield from _mapping_differences(first, second, name)
    elif isinstance(first, Sequence) and not isinstance(first, str | bytes):
        yield from _sequence_differences(first, second, name)
    elif _plain_bits(first) != _plain_bits(second):
        yield f"{name}: {first!r} against {second!r}"


def _plain_bits(value: Any) -> Any:
    """Return what tells a plain value from another: of a float its bits, as not a number is unequal to itself."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def _sequence_differences(first: Sequence[Any], second: Sequence[Any], name: str) -> Iterator[str]:
    if len(first) != len(second):
        yield f"{name}: {len(first)} entries against {len(second)}"
    for index, (left, right) in enumerate(zip(first, second, strict=False)):
        yield from differences(left, right, f"{name}[{index}]")


def _mapping_differences(first: Mapping[Any, Any], second: Mapping[Any, Any], name: str) -> Iterator[str]:
    for key in [*first, *(key for key in second if key not in first)]:
        place = f"{name}.{key}" if name else str(key)
        if place in EXEMPT:
            continue
        if key not in second:
            yield f"{place}: only in the first"
        elif key not in first:
            yield f"{place}: only in the second"
        else:
            yield from differences(first[key], second[key], place)


def _tensor_differences(first: torch.Tensor, second: torch.Tensor, name: str) -> Iterator[str]:
    if first.dtype != second.dtype or first.shape != second.shape:
        yield f"{name}: {first.dtype} {tuple(first.shape)} against {second.dtype} {tuple(second.shape)}"
        return
    if _bytes(first) == _bytes(second):
        return
    gap = float((first.double() - second.double()).abs().max()) if first.numel() else math.nan
    yield f"{name}: {tuple(first.shape)} differs by up to {gap:.3g}"


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def checkpoint_differences(first: Path, second: Path) -> Iterator[str]:
    """Compare two checkpoint files."""
    for path in (first, second):
        if not path.is_file():
            yield f"{path}: not there"
            return
    left, right = (torch.load(path, map_location="cpu", weights_only=True) for path in (first, second))
    for key in REQUIRED:
        if key not in left or key not in right:
            yield f"{first.name}: no {key} in it"
    yield from (f"{first.name}: {line}" for line in differences(left, right))


def metrics_differences(first: Path, second: Path) -> Iterator[str]:
    """Compare two metrics.csv byte for byte; no column of theirs holds a time."""
    for path in (first, second):
        if not path.is_file():
            yield f"{path}: not there"
            return
    if first.read_bytes() == second.read_bytes():
        return
    yield "metrics.csv: the files differ"
    with first.open(newline="", encoding="utf-8") as left, second.open(newline="", encoding="utf-8") as right:
        rows = zip_longest(csv.reader(left), csv.reader(right), fillvalue=["no row"])
        for number, (one, other) in enumerate(rows, 1):
            if one != other:
                yield f"metrics.csv, line {number}: {','.join(one)} against {','.join(other)}"


def run_differences(first: Path, second: Path) -> list[str]:
    """Compare two run directories."""
    names = [
        {path.name for path in run.glob("checkpoints/*.ckpt")} - set(UNCOMPARED_FILES)
        for run in (first, second)
    ]
    found = [f"checkpoints/{name}: in one of the runs only" for name in sorted(names[0] ^ names[1])]
    for name in CHECKPOINTS:
        found += checkpoint_differences(first / "checkpoints" / name, second / "checkpoints" / name)
    found += metrics_differences(first / "metrics.csv", second / "metrics.csv")
    losses = [
        (run / "losses.jsonl").read_bytes() if (run / "losses.jsonl").is_file() else b""
        for run in (first, second)
    ]
    if losses[0] != losses[1]:
        found.append("losses.jsonl: the files differ")
    return found


def main(arguments: Sequence[str]) -> int:
    """Compare two runs; 0 where they are equal, 1 where not, 2 where the command is wrong."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python checker.py RUN_A RUN_B\n")
        return 2
    found = run_differences(Path(arguments[0]), Path(arguments[1]))
    sys.stdout.writelines(f"{line}\n" for line in found or ["equal"])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

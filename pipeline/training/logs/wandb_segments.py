"""Reads what Weights & Biases has on disk: one segment per start of the run, cut anywhere by a kill.

A segment is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of seven
bytes; every record is one `wandb_internal.Record`. wandb itself only offers to upload it.
"""

import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # chosen by protobuf's version

_MAGIC = b":W&B"
_BEGIN = 7  # the magic, a check number and the version
_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_WAIT_S = 10.0
_FULL, _FIRST, _LAST = 1, 2, 4


def segments(wandb_dir: Path) -> list[Path]:
    """Return the segments of a run, in the order in which they were begun."""
    found = wandb_dir.glob("*run-*/run-*.wandb")
    # run-20260131_235959-ID or offline-run-20260131_235959-ID
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def read_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield (offset of its end, record) of each whole record of a segment, and stop where it is cut or damaged."""
    data = path.read_bytes()
    if data[: len(_MAGIC)] != _MAGIC:
        return
    offset, payload = _BEGIN, b""
    while True:
        left = _BLOCK - offset % _BLOCK
        if left < _HEADER.size:  # too little for a header: filled up with zeros
            offset += left
            continue
        begin = offset + _HEADER.size
        if begin > len(data):
            return
        checksum, length, kind = _HEADER.unpack_from(data, offset)
        chunk = data[begin : begin + length]
        if kind == 0 or len(chunk) < length or zlib.crc32(bytes([kind]) + chunk) != checksum:
            return
        offset = begin + length
        payload = chunk if kind in (_FULL, _FIRST) else payload + chunk
        if kind in (_FULL, _LAST):
            yield offset, Record.FromString(payload)


def history(path: Path) -> list[dict[str, object]]:
    """Return the rows that a segment holds, `_step` included."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for _, record in read_records(path)
        if record.HasField("history")
    ]


def row_numbers(path: Path) -> set[int]:
    """Return the numbers (`_step`) of the rows that a segment holds."""
    return {record.history.step.num for _, record in read_records(path) if record.HasField("history")}


def mend(path: Path) -> None:
    """Cut a segment behind its last whole record, and remove one that does not say yet whose it is.

    wandb uploads nothing of a run that follows a torn record, and nothing at all beside a segment without a run.
    """
    size, named = _BEGIN, False
    for end, record in read_records(path):
        size, named = end, named or record.HasField("run")
    if not named:
        shutil.rmtree(path.parent)
    elif path.stat().st_size > size:
        os.truncate(path, size)


def wait_for_writers(wandb_dir: Path) -> None:
    """Wait until no process writes a segment any more: wandb's own lives a moment longer than a killed run."""
    end = time.monotonic() + _WAIT_S
    while _is_written(wandb_dir) and time.monotonic() < end:
        time.sleep(0.05)


def _is_written(wandb_dir: Path) -> bool:
    """Tell whether a process of this machine holds a segment open."""
    own = {str(path.resolve()) for path in segments(wandb_dir)}
    processes = [name for name in _listed("/proc") if name.isdigit()] if own else []
    return any(
        _target(f"/proc/{process}/fd/{number}") in own
        for process in processes
        for number in _listed(f"/proc/{process}/fd")
    )


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # the process has ended in between, or is another user's; not every system has the folder
        return []


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None

"""TensorBoard event files: one per start of the run, together one curve.

The events are written without TensorBoard's own writer, whose background thread turns a full disk into a traceback.
"""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_only
from matplotlib.image import imread
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import audio, image, scalar

from pipeline.training.logs.base import Mark, RunLog, disk_errors, sync

_PATTERN = "events.out.tfevents.*"


class TensorBoardLog(RunLog):
    """Scalars, demonstrations and pictures in `tensorboard/`.

    Args:
        directory: where the event files lie.
        mark: name -> size of each event file at the checkpoint that the run continues from, or None where it does
            not say.
        resumed_step: optimiser steps of that checkpoint; None removes what an earlier start has left.
    """

    def __init__(self, directory: Path, mark: Mark | None, resumed_step: int | None) -> None:
        super().__init__()
        self._directory = directory
        self._file: Path  # of this start
        self._start(mark, resumed_step)

    @property
    def name(self) -> str:
        """Name of the log."""
        return "tensorboard"

    @rank_zero_only
    def _start(self, mark: Mark | None, resumed_step: int | None) -> None:
        with disk_errors(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            for path in self._files():
                if mark is not None and path.name in mark:
                    _cut(path, mark[path.name])
                elif mark is None and resumed_step is not None:
                    _cut(path, _size_up_to(path, resumed_step))
                else:
                    path.unlink()  # of a start that ended before its first checkpoint
        # TensorBoard reads files in the order of their names, and clocks of two machines differ.
        stamps = [int(path.name.split(".")[3]) for path in self._files()]
        stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
        self._file = self._directory / f"events.out.tfevents.{stamp:010d}.{gethostname()}"
        self._write(Event(file_version="brain.Event:2"))
        if resumed_step is not None:  # a TensorBoard that is running forgets what was removed here
            self._write(Event(step=resumed_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob(_PATTERN))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with disk_errors(self._file), self._file.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())

    def _add(self, summary: Summary, step: int) -> None:
        self._write(Event(step=step, summary=summary))

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add one point to each curve."""
        values = [value for name, number in metrics.items() for value in scalar(name, number).value]
        self._add(Summary(value=values), step or 0)

    @rank_zero_only
    def log_audio(self, name: str, path: Path, samples: np.ndarray, sample_rate_hz: int, step: int) -> None:
        """Add audio (S, C) as one channel, the most that TensorBoard plays."""
        self._add(audio(name, samples.mean(axis=1).clip(-1, 1), sample_rate=sample_rate_hz), step)

    @rank_zero_only
    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Add a PNG file."""
        self._add(image(name, imread(path)[..., :3], dataformats="HWC"), step)

    def mark(self) -> Mark:
        """Put the events on disk and return the size of each file."""
        with disk_errors(self._directory):
            return {path.name: sync(path) for path in self._files()}


def read_events(path: Path) -> Iterator[tuple[int, Event]]:
    """Yield (offset of its end, event) of each whole event of a file."""
    data, offset = path.read_bytes(), 0
    while len(data) >= offset + 12:
        (length,) = struct.unpack_from("<Q", data, offset)
        end = offset + 12 + length + 4  # length, its checksum, event, its checksum
        if end > len(data):
            return
        yield end, Event.FromString(data[offset + 12 : end - 4])
        offset = end


def _size_up_to(path: Path, step: int) -> int:
    size = 0
    for end, event in read_events(path):
        if event.step > step and event.HasField("summary"):
            break
        size = end
    return size


def _cut(path: Path, size: int) -> None:
    if path.stat().st_size > size:
        with path.open("r+b") as file:
            file.truncate(size)

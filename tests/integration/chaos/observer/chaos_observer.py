"""Says from inside a process what its training does at this moment, without a line of the training code for it.

A thread looks at the stacks of all threads about once a millisecond and writes what it finds into a small file that is
mapped into memory. The file outlives a kill, so that it says what the process did when it died.
"""

import mmap
import os
import struct
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

FOLDER_VARIABLE = "EULER_CHAOS_STAGES"
BREAK_VARIABLE = "EULER_CHAOS_BREAK"
STAGES = ("set-up", "first batch", "mid-step", "between steps", "last batch", "validation", "end")
WRITE = "write"
_PERIOD_S = 0.001
_RECORD = struct.Struct("<ibbii" + "i" * len(STAGES) + "i")
_WRITERS = ("write_atomically", "link", "unite", "prune", "_exchange")


class Observation(NamedTuple):
    """What a process did when it was last looked at.

    Attributes:
        rank: global rank, -1 in a process that is no rank of several.
        stage: one of STAGES.
        is_writing: whether a checkpoint is being written in any thread.
        step: optimiser steps done, -1 before training.
        first_step: optimiser steps done when this process began to train, -1 before.
        entries: how often each of STAGES was entered.
        writes: how many writes of a checkpoint have begun.
    """

    rank: int
    stage: str
    is_writing: bool
    step: int
    first_step: int
    entries: tuple[int, ...]
    writes: int

    def count(self, stage: str) -> int:
        """Return how often a stage, or a write, has begun."""
        return self.writes if stage == WRITE else self.entries[STAGES.index(stage)]

    def is_in(self, stage: str) -> bool:
        """Return whether a stage, or a write, is going on."""
        return self.is_writing if stage == WRITE else self.stage == stage


def read(file: Path) -> Observation | None:
    """Return what a process says of itself, None before it says anything."""
    if file.suffix or not file.exists():
        return None
    rank, stage, is_writing, step, first_step, *counts = _RECORD.unpack(file.read_bytes())
    return Observation(
        rank, STAGES[stage], bool(is_writing), step, first_step, tuple(counts[:-1]), counts[-1]
    )


class _Watch:
    """Samples the stacks of this process."""

    def __init__(self, folder: Path) -> None:
        self._rank = int(os.environ.get("RANK", "-1"))
        self._trainer: Any = None
        self._first_step = self._first_batches = -1
        self._stage, self._is_writing = STAGES[0], False
        self._entries, self._writes = [0] * len(STAGES), 0
        self._entries[0] = 1
        file = folder / str(os.getpid())
        unfinished = file.with_suffix(".new")
        unfinished.write_bytes(self._record())
        unfinished.rename(file)
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _RECORD.size)

    def run(self) -> None:
        """Look, write down, sleep, for ever."""
        main = threading.main_thread().ident
        while True:
            frames = sys._current_frames()
            self._note_write(any(_is_writing(frame) for frame in frames.values()))
            if main in frames:
                self._note_stage(self._stage_of(frames[main]))
            del frames
            self._map[:] = self._record()
            time.sleep(_PERIOD_S)

    def _note_write(self, is_writing: bool) -> None:
        self._writes += is_writing and not self._is_writing
        self._is_writing = is_writing

    def _note_stage(self, stage: str) -> None:
        if stage != self._stage:
            self._entries[STAGES.index(stage)] += 1
        self._stage = stage

    def _record(self) -> bytes:
        step = -1 if self._trainer is None else self._trainer.global_step
        stage, counts = STAGES.index(self._stage), (*self._entries, self._writes)
        return _RECORD.pack(self._rank, stage, self._is_writing, step, self._first_step, *counts)

    def _stage_of(self, frame: FrameType | None) -> str:
        is_fitting = is_in_epoch = is_in_step = False
        while frame is not None:
            file, name = frame.f_code.co_filename, frame.f_code.co_name
            if file.endswith("/evaluation_loop.py") and name == "run":
                return "validation"
            is_in_step |= file.endswith("/optimization/automatic.py")
            if file.endswith("/training_epoch_loop.py") and name == "run":
                is_in_epoch = True
                self._meet(frame)
            is_fitting |= file.endswith("/fit_loop.py") and name == "run"
            frame = frame.f_back
        if self._trainer is None:
            return "set-up"
        if not is_fitting:
            return "end"
        return self._stage_in_training(is_in_epoch, is_in_step)

    def _stage_in_training(self, is_in_epoch: bool, is_in_step: bool) -> str:
        progress = self._trainer.fit_loop.epoch_loop.batch_progress
        if is_in_epoch and progress.total.completed == self._first_batches:
            return "first batch"
        if progress.current.ready >= self._trainer.num_training_batches:
            return "last batch"
        return "mid-step" if is_in_step else "between steps"

    def _meet(self, frame: FrameType) -> None:
        """Find the Trainer in the frame of its loop over batches, once."""
        if self._trainer is None:
            trainer = frame.f_locals["self"].trainer
            self._first_step = trainer.global_step
            self._first_batches = trainer.fit_loop.epoch_loop.batch_progress.total.completed
            self._trainer = trainer


def _is_writing(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name in _WRITERS and "/pipeline/training/" in code.co_filename:
            return True
        frame = frame.f_back
    return False


def watch_if_told() -> None:
    """Start to watch this process where the environment names a folder, and break it where that is asked for."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        sys.setswitchinterval(0.0005)
        threading.Thread(target=_Watch(Path(folder)).run, name="observer", daemon=True).start()


def break_if_told() -> None:
    """Make the order of samples or the latent noise another one, in a process that has the training code loaded."""
    kind = os.environ.get(BREAK_VARIABLE)
    if kind == "order":
        _shift_seed("pipeline.data.sampler", "order")
    elif kind == "noise":
        _shift_seed("pipeline.training.reproducibility", "latent")


def _shift_seed(module_name: str, purpose: str) -> None:
    module: Any = sys.modules[module_name]
    original = module.derive_seed

    def shifted(*parts: int | str) -> int:
        return original(*parts) + (purpose in parts)

    module.derive_seed = shifted

"""What a loader's worker process does first, and how it tells what it is doing."""

import faulthandler
import multiprocessing
import os
import random
import signal
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.data.lifeline import end_with_parent
from pipeline.data.seeds import derive_seed

_NUMPY_SEED_RANGE = 1 << 32
_NICENESS = 10  # workers are ahead of training; where both want a core, training has it
_WRITING_S = 0.2  # takes a worker that gets a core


@cache
def _stacks() -> int | None:
    """Descriptor of memory that all workers of this process write to; None on systems other than Linux."""
    return os.memfd_create("stacks of workers") if hasattr(os, "memfd_create") else None


def _prepare_stacks() -> None:
    """Have this process, and what it forks, write their stacks on a signal; Lightning takes handlers away again."""
    if (file := _stacks()) is not None:
        faulthandler.unregister(signal.SIGRTMIN)
        faulthandler.register(signal.SIGRTMIN, file=file)


def stacks_of_workers() -> bytes:
    """Have every worker of this process write what its threads are doing; what it waits for need not come."""
    if (file := _stacks()) is None:
        return b""
    children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    workers = [child for child in children if _writes_stacks(child)]
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGRTMIN)
    if workers:
        time.sleep(_WRITING_S)
    return os.pread(file, os.fstat(file).st_size, 0)


def _writes_stacks(process: int) -> bool:
    """Whether a process has a handler for the signal, which would end any other."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGRTMIN - 1) & 1)


class WorkerLoader(DataLoader[Any]):
    """A loader whose workers are started with SIGTERM blocked.

    Every thread of a worker inherits that, also those that libraries start before `start_worker` is called: a
    signal goes to any thread that does not block it, and would end the worker.
    """

    def __iter__(self) -> Any:
        """Starts the workers, if there are any."""
        _prepare_stacks()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int, *, seed: int) -> None:
    """Ties a worker to the main process, lets that go first, seeds what it might draw from, and leaves signals to it.

    A worker that outlived a killed run would hold the run's lock. A scheduler signals all processes of a job. The
    main process saves a checkpoint first, which it cannot do if its workers die at once: their death raises in the
    middle of a step.
    """
    main = multiprocessing.parent_process()
    assert main is not None and main.pid is not None
    end_with_parent(main.pid)
    os.nice(_NICENESS)
    worker_seed = derive_seed(seed, "worker", worker)
    random.seed(worker_seed)
    np.random.seed(worker_seed % _NUMPY_SEED_RANGE)
    torch.manual_seed(worker_seed)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        threading.Thread(target=_end_at_word_of_parent, args=(os.getppid(),), daemon=True).start()


def _end_at_word_of_parent(parent: int) -> None:
    """Ends the process at a SIGTERM from its parent, which is how Python ends its workers."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)

"""What a loader's worker process does first."""

import multiprocessing
import os
import random
import signal
import threading
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.data.lifeline import end_with_parent
from pipeline.data.seeds import derive_seed

_NUMPY_SEED_RANGE = 1 << 32
_NICENESS = 10  # workers are ahead of training; where both want a core, training has it


class WorkerLoader(DataLoader[Any]):
    """A loader whose workers are started with SIGTERM blocked.

    Every thread of a worker inherits that, also those that libraries start before `start_worker` is called: a
    signal goes to any thread that does not block it, and would end the worker.
    """

    def __iter__(self) -> Any:
        """Starts the workers, if there are any."""
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

"""What a user can do about an error of torch, of the system or of another rank."""

import errno
import shutil
from pathlib import Path

from pipeline.errors import DataError, PeerError, TrainingError
from pipeline.launch.directory import RunDirectory
from pipeline.launch.preflight import Preflight
from pipeline.launch.report import out_of_memory_advice
from pipeline.training.ranks.loss import is_loss

_ALMOST_NOTHING = 2**20  # bytes


def explain(error: BaseException, checked: Preflight, step: int) -> BaseException:
    """Return what a user can do about an error of torch or of the disk, or the error itself."""
    import torch

    from pipeline.data.transport import MORE_SHARED_MEMORY

    error = _original(error)
    text = str(error)
    if "unable to allocate shared memory" in text:
        return DataError(f"{text.strip().splitlines()[-1]}; {MORE_SHARED_MEMORY}")
    if isinstance(error, OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        if error.filename is None and _is_full(Path("/dev/shm")):  # where semaphores of workers lie
            return DataError(f"the shared memory (/dev/shm) is full; {MORE_SHARED_MEMORY}")
        place = error.filename or RunDirectory.of(checked.config).path
        return TrainingError(f"{place}: the disk is full; free space there, then resume")
    if isinstance(error, torch.OutOfMemoryError):
        return TrainingError(out_of_memory_advice(checked.config, checked.resources, text))
    if "returned nan values" in text:  # what trainer.trainer.detect_anomaly raises
        return TrainingError(f"the gradient is not finite at step {step}: {text}")
    if is_loss(error):
        return PeerError(f"another rank is gone, see its own message ({text.splitlines()[0]})")
    return error


def _original(error: BaseException) -> BaseException:
    """Return the error that kept a loader from starting: Lightning fails once more while it puts the loader away."""
    while "iter(combined_loader)" in str(error) and error.__context__ is not None:
        error = error.__context__
    return error


def _is_full(folder: Path) -> bool:
    return folder.exists() and shutil.disk_usage(folder).free < _ALMOST_NOTHING

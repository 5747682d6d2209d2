"""What every log of a run can do besides taking metrics: say how far it is, and take sounds and pictures."""

import os
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger

from pipeline.errors import TrainingError

Mark = dict[str, int]


class RunLog(Logger):
    """A log that a resumed run continues without a gap and without anything twice.

    What was logged after the checkpoint's mark is removed on resume, since the run logs it again, bit for bit; where
    nothing can be removed, it is not logged again.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the log, as `trainer.logger` calls it."""

    @abstractmethod
    def mark(self) -> Mark:
        """Put all that was logged on disk and return how far the log is, as plain data for a checkpoint."""

    def close(self, failed: bool) -> None:
        """End the log; nothing is logged afterwards.

        Args:
            failed: whether the run ended by an error.
        """

    @property
    def version(self) -> int:
        """There is one log of a kind a run."""
        return 0

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""

    def log_audio(self, name: str, path: Path, samples: np.ndarray, sample_rate_hz: int, step: int) -> None:
        """Take audio (S, C), which also lies in a file of the run directory, where the log can play it."""

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Take a PNG file, where the log can show it."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one that names the file.

    Raises:
        TrainingError: the file could not be written.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written ({error.strerror or error}); make room or mend the access, then resume the "
            "run: its checkpoints are intact"
        ) from error


def sync(path: Path) -> int:
    """Wait until a file is on disk and return its size in bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size

"""Lightning's way to the project's checkpoints."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO

from pipeline.errors import CheckpointError
from pipeline.training.checkpoint import read
from pipeline.training.checkpoints.file import write_atomically
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.checkpoints.writer import BackgroundWriter

_log = logging.getLogger(__name__)


class RunCheckpointIO(CheckpointIO):
    """Writes `last.ckpt` atomically beside training, reads verified plain data.

    Args:
        store: the run's checkpoints.
        writer: the thread that writes them.
    """

    def __init__(self, store: CheckpointStore, writer: BackgroundWriter) -> None:
        self._store = store
        self._writer = writer

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Callable[[], None] | None = None
    ) -> None:
        """Copy the state and have it written; `storage_options` is called when the file is whole."""
        self._writer.submit(checkpoint, partial(self._write, Path(path), storage_options))

    def _write(self, path: Path, then: Callable[[], None] | None, checkpoint: dict[str, Any]) -> None:
        write_atomically(checkpoint, path, before_rename=self._store.keep_previous)
        if then is not None:
            then()

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load verified plain data."""
        return read(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint file."""
        Path(path).unlink(missing_ok=True)

    def teardown(self) -> None:
        """Wait until everything is written; an error of its own must not hide the one that ends the run."""
        try:
            self._writer.wait()
        except CheckpointError as error:
            _log.error("%s", error)

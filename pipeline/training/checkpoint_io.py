"""Lightning's way to the project's checkpoints."""

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO

from pipeline.training.checkpoint import read, write_atomically


class AtomicCheckpointIO(CheckpointIO):
    """Writes atomically, reads verified plain data."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write atomically."""
        write_atomically(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load verified plain data."""
        return read(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint file."""
        Path(path).unlink(missing_ok=True)

"""One line format for all that a run says: plain on the first rank, marked on the others, kept in the run directory."""

import logging
import sys
import warnings
from pathlib import Path
from typing import TextIO

# Said by libraries about themselves or about what this project does on purpose; the user can do nothing about them.
_KNOWN_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\)",
    r".*does not have many workers",
    r"The number of training batches .* is smaller than the logging interval",
    r"Precision .* is not supported by the model summary",
    r"`torch\.distributed\.\w+` is deprecated",  # DeepSpeed's calls
    r"The AccumulateGrad node's stream does not match",  # Lightning wraps DDP in a stream, as torch's notes advise
    r"`broadcast_buffers` is deprecated",  # its successor would send the constants once more
    r"The `srun` command is available on your system but is not used",  # training on a login node is fine
    r"Found \d+ module\(s\) in eval mode at the start of training",  # averaged weights, and what train_only freezes
    r"Grad strides do not match bucket view strides",  # of a weight of two numbers, which has strides of both kinds
)


class _Console(logging.Handler):
    """Writes to whatever sys.stdout (errors: sys.stderr) is at the moment: above a progress bar, not in it.

    Args:
        on_stderr: write all to sys.stderr.
    """

    def __init__(self, on_stderr: bool = False) -> None:
        super().__init__()
        self._on_stderr = on_stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        stream = sys.stderr if self._on_stderr or record.levelno >= logging.ERROR else sys.stdout
        stream.write(writable(self.format(record), stream) + "\n")
        stream.flush()


def writable(text: str, stream: TextIO) -> str:
    """Return a text as a stream can take it: names of files may hold bytes that are no characters.

    Args:
        text: any text.
        stream: where it is written to.
    """
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def configure_logging(rank: int = 0, log_file: Path | None = None, *, on_stderr: bool = False) -> None:
    """Send this package's messages to standard output and to the run's log.

    Args:
        rank: global rank; all but the first say warnings only, marked with their rank.
        log_file: file to append to, with times.
        on_stderr: leave standard output to what a command was asked for.
    """
    # Lightning's advertisements and its echo of settings that our banner shows
    lightning = logging.getLogger("pytorch_lightning")
    lightning.setLevel(logging.WARNING)
    lightning.propagate = False
    logging.getLogger("pytorch_lightning.callbacks.model_summary").setLevel(logging.INFO)
    for text in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
    logger = logging.getLogger("pipeline")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO)
    console = _Console(on_stderr)
    console.setFormatter(logging.Formatter("%(message)s" if rank == 0 else f"[rank {rank}] %(message)s"))
    console.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logger.addHandler(console)
    lightning.handlers = [console]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)

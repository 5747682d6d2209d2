"""`python -m pipeline.launch.portable RUN OUT.ckpt`: a checkpoint with shards as one file.

A run that ends does it by itself; this is for one that has not ended.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CheckpointError, PipelineError
from pipeline.inference.locate import find_checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one file and return the exit code: 1 with one sentence for a user's error."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.launch.portable",
        description="Write a checkpoint with shards, of a run with trainer.strategy=deepspeed that has not ended, as "
        "one file: all its state, for inference, run.init_from, or a run directory of its own.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory or .ckpt file")
    parser.add_argument("output", metavar="OUT", type=Path, help=".ckpt file to write")
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), help="of a run directory (default: best where there is one)"
    )
    options = parser.parse_args(arguments)
    try:
        source = find_checkpoint(options.run, options.checkpoint)
        step = _write(source, options.output)
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(f"{options.output}: {source} at step {step}, in one file\n")
    return 0


def _write(source: Path, target: Path) -> int:
    """Write a checkpoint as one file and return its optimiser steps.

    Raises:
        CheckpointError: the source is damaged, a shard is missing, or the target exists or cannot be written.
    """
    from pipeline.training.checkpoint import read
    from pipeline.training.checkpoints.file import write_atomically

    if target.exists():
        raise CheckpointError(f"{target}: exists; name another file")
    checkpoint = read(source)
    write_atomically(checkpoint, target)
    return int(checkpoint["global_step"])


if __name__ == "__main__":
    sys.exit(main())

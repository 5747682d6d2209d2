"""Finds the checkpoint that a person means by a run directory. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf

from pipeline.errors import CheckpointError, ConfigError

Which = Literal["best", "last"]


def find_checkpoint(run: Path, which: Which | None = None) -> Path:
    """Return the checkpoint of a run.

    Args:
        run: a checkpoint file, a run directory, or a directory of checkpoints.
        which: `best.ckpt` or `last.ckpt`; None takes the best one where there is one. Only for directories.

    Raises:
        CheckpointError: there is no such directory, or no such checkpoint in it.
        ConfigError: `which` is given beside a checkpoint file.
    """
    if run.is_file():
        if which is not None:
            raise ConfigError(f"{run} is a checkpoint; --checkpoint {which} chooses one in a run directory")
        return run
    if not run.is_dir():
        raise CheckpointError(f"{run}: no such run directory or checkpoint")
    names = [f"{which}.ckpt"] if which else ["best.ckpt", "last.ckpt"]
    searched = []
    for directory in _checkpoint_directories(run):
        searched.append(str(directory))
        for name in names:
            if (directory / name).is_file():
                return directory / name
    raise CheckpointError(
        f"{run}: no {' or '.join(names)} in {', '.join(searched)}; train first, or name a .ckpt file"
    )


def _checkpoint_directories(run: Path) -> Iterator[Path]:
    """Where the checkpoints of a run can be, the likeliest first; `ckpt_dir` puts them elsewhere."""
    yield run / "checkpoints"
    yield run
    config = run / "config.yaml"
    if config.is_file():
        elsewhere = OmegaConf.select(OmegaConf.load(config), "trainer.trainer.ckpt_dir")
        if elsewhere:
            yield Path(elsewhere)

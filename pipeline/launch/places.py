"""Whether the folders and files that a configuration names are there and may be used."""

import os
from pathlib import Path

from pipeline.config.registry import suggest
from pipeline.config.schema import Config
from pipeline.data import AUDIO_EXTENSIONS
from pipeline.errors import ConfigError, DataError


def check_data_root(config: Config) -> None:
    """Refuse a folder of audio that is not there, or one that would not be read.

    Raises:
        ConfigError: the default corpus takes no folder.
        DataError: no folder is given, or it does not exist.
    """
    data = config.data
    if data.source == "default":
        if data.root is not None:
            raise ConfigError(f"data.root={data.root} is not read by data.source=default; valid: data=folder")
        return
    if data.root is None:
        raise DataError("data.root: not given; set data.root=DIR (or EULER_DATA) to a folder of audio files")
    for key, root in (("data.root", data.root), ("data.eval_dataset.root", data.eval_dataset.root)):
        if root is not None and not Path(root).is_dir():
            raise DataError(f"{key}={root}: no such folder; set it to a folder of audio files")


def check_extensions(config: Config) -> None:
    """Refuse file extensions that cannot be read.

    Raises:
        ConfigError: with the extensions that can.
    """
    choices = [known.removeprefix(".") for known in AUDIO_EXTENSIONS]
    if not config.data.extensions:
        raise ConfigError(
            f"data.extensions=[]: no file would be taken; valid: a list of {', '.join(choices)}"
        )
    for extension in config.data.extensions:
        if extension.lower().removeprefix(".") not in choices:
            raise ConfigError(
                f"data.extensions: {extension!r} cannot be read; {suggest(extension, choices)}; convert other formats "
                "once (ffmpeg -i song.m4a song.flac)"
            )


def check_places(config: Config, given: frozenset[str]) -> None:
    """Refuse what cannot become a folder, and a checkpoint that is not there, before anything is written.

    Raises:
        ConfigError: with the key and the folder.
    """
    lightning = config.trainer.trainer
    folders = {
        "run.dir": config.run.dir,
        "trainer.trainer.ckpt_dir": lightning.ckpt_dir,
        "trainer.trainer.profiler_dir": lightning.profiler_dir,
    }
    for key, folder in folders.items():
        if folder is None:
            continue
        try:
            nearest = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
        except OSError as error:  # a name that is too long, a folder that may not be entered
            raise ConfigError(f"{key}={folder}: {error.strerror}; valid: a folder of yours") from None
        if not nearest.is_dir():
            raise ConfigError(f"{key}={folder}: {nearest} is a file; valid: a folder, which may be new")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{key}={folder}: no permission to write in {nearest}; valid: a folder of yours"
            )
    start = config.run.init_from
    # A run that goes on has its own checkpoint: the one that it once began with may be gone.
    if start is not None and "run.init_from" in given and not Path(start).exists():
        raise ConfigError(
            f"run.init_from={start}: no such checkpoint; valid: a run directory, or a file like "
            "RUN/checkpoints/best.ckpt"
        )

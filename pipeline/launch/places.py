"""Whether the folders and files that a configuration names are there and may be used."""

import os
import re
from pathlib import Path

from pipeline.config.registry import check_arguments, check_block, suggest
from pipeline.config.schema import Config
from pipeline.data import AUDIO_EXTENSIONS, AUGMENTATIONS, SELECTIONS
from pipeline.errors import ConfigError, DataError

_FOLDERS = "Folders"
_SET_NAME = re.compile(r"[\w-]+", re.ASCII)


def check_data_root(config: Config) -> None:
    """Refuse a folder of audio that is not there, or one that would not be read.

    Raises:
        ConfigError: a key that this source does not read, or a selection that is not known.
        DataError: no folder is given, or it does not exist.
    """
    data = config.data
    check_block(data.selection, SELECTIONS, "data.selection")
    for name, arguments in data.train_dataset.augmentations.items():
        where = f"data.train_dataset.augmentations.{name}"
        if name not in AUGMENTATIONS:
            raise ConfigError(f"{where}: unknown; {suggest(name, AUGMENTATIONS)}")
        check_arguments(AUGMENTATIONS[name], arguments or {}, where)
    if data.source == "mix":
        _check_mix(config)
        return
    if data.mix:
        raise ConfigError(f"data.mix is not read by data.source={data.source}; valid: data.source=mix")
    if data.source == "default":
        if data.root is not None:
            raise ConfigError(f"data.root={data.root} is not read by data.source=default; valid: data=folder")
        if data.selection["type"] != _FOLDERS:
            raise ConfigError(
                f"data.selection.type={data.selection['type']} is not read by data.source=default; valid: data=folder"
            )
        return
    if data.root is None:
        raise DataError("data.root: not given; set data.root=DIR (or EULER_DATA) to a folder of audio files")
    for key, root in (("data.root", data.root), ("data.eval_dataset.root", data.eval_dataset.root)):
        _require_folder(key, root)


def _check_mix(config: Config) -> None:
    data = config.data
    if not data.mix:
        raise ConfigError(
            "data.mix: no set is given; set data.mix.NAME.root=DIR data.mix.NAME.weight=1 for each"
        )
    for key, value in (("data.eval_dataset.root", data.eval_dataset.root),):
        if value is not None:
            raise ConfigError(
                f"{key}={value} is not read by data.source=mix, which holds out a part of each set"
            )
    if data.selection["type"] != _FOLDERS:
        raise ConfigError("data.selection is not read by data.source=mix; valid: data.mix.NAME.selection")
    for name, part in data.mix.items():
        if not _SET_NAME.fullmatch(name):
            raise ConfigError(f"data.mix.{name}: the name of a set has letters, digits, - and _ only")
        _require_folder(f"data.mix.{name}.root", part.root)
        if part.selection is not None:
            check_block(part.selection, SELECTIONS, f"data.mix.{name}.selection")


def _require_folder(key: str, root: str | None) -> None:
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
                "once (python -m pipeline.data.convert SOURCE)"
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

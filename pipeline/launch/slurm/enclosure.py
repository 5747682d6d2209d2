"""What a job's image has to be given of the host: folders under their own names, and the arguments that enter it."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.container_schema import ContainerSettings
from pipeline.config.schema import Config


@dataclass(frozen=True)
class Enclosure:
    """An image and what jobs in it see of the host.

    Attributes:
        image: the file, absolute.
        executable: that enters it.
        arguments: of slurm/in_image.sh, before its `--`.
    """

    image: Path
    executable: str
    arguments: tuple[str, ...]


def enclosure(configs: Sequence[Config], folders: Iterable[Path]) -> Enclosure | None:
    """Return what jobs that share a script need to run in their image; None where they run without one.

    Args:
        configs: settled, of all of these jobs; their `container` and their GPUs are equal.
        folders: further ones that are written to.
    """
    container = configs[0].container
    if container.image is None:
        return None
    written = _outermost([*folders, *(folder for config in configs for folder in _written(config))])
    read = _outermost(path for config in configs for path in _read(config))
    return Enclosure(
        image=Path(container.image),
        executable=executable_of(container.executable),
        arguments=(
            *(f"--folder={folder}" for folder in written),
            *(f"--data={path}" for path in read if not any(path.is_relative_to(each) for each in written)),
            *(["--nv"] if configs[0].trainer.num_gpus else []),
            *user_arguments(container),
        ),
    )


def user_arguments(container: ContainerSettings) -> list[str]:
    """Return what the user adds to entering the image."""
    return [*(f"--bind={_absolute(bind)}" for bind in container.binds), *container.args]


def executable_of(name: str) -> str:
    """Return the program as the nodes find it, whatever folder they start it from."""
    return os.path.abspath(os.path.expanduser(name)) if os.sep in name else name


def _absolute(bind: str) -> str:
    source, colon, rest = bind.partition(":")
    return f"{os.path.abspath(os.path.expanduser(source))}{colon}{rest}"


def _written(config: Config) -> Iterator[Path]:
    lightning = config.trainer.trainer
    for folder in (
        config.data.cache_dir,
        config.data.scratch_dir,
        lightning.ckpt_dir,
        lightning.profiler_dir,
    ):
        if folder is not None:
            yield Path(folder)


def _read(config: Config) -> Iterator[Path]:
    sets = list(config.data.mix.values())
    for path in (config.data.root, config.data.eval_dataset.root, *(part.root for part in sets)):
        if path is not None:
            yield Path(path)
    for selection in (config.data.selection, *(part.selection or {} for part in sets)):
        yield from _lists(selection.get("config") or {})
    if config.run.init_from is not None:
        start = Path(config.run.init_from)
        yield start.parent if start.suffix == ".ckpt" else start
    if os.environ.get("EULER_DATA"):
        yield Path(os.environ["EULER_DATA"]).expanduser().absolute()


def _lists(arguments: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the files that a selection reads, which may lie outside of the audio."""
    for value in arguments.values():
        if isinstance(value, str) and os.path.exists(value):
            yield Path(value).absolute()


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Return the paths without those that lie within others."""
    kept = list(dict.fromkeys(paths))
    return [path for path in kept if not any(path != other and path.is_relative_to(other) for other in kept)]

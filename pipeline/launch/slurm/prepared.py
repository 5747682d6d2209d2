"""One point of a sweep, checked and ready to be submitted."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import compose
from pipeline.config.compose import Composition
from pipeline.config.launcher_schema import LauncherSettings, parse_launcher
from pipeline.config.schema import RESUME_WORDS, Config
from pipeline.errors import LaunchError
from pipeline.launch import preflight, resources, resume
from pipeline.launch.slurm import checks, shape
from pipeline.launch.slurm.cluster import Cluster
from pipeline.launch.slurm.shape import Shape
from pipeline.launch.slurm.sweep import Sweep, Wanted, home_of, horizon_of, identity_of


@dataclass(frozen=True)
class Prepared:
    """One point.

    Attributes:
        config: settled, its GPUs counted.
        checked: as a run keeps it, with all that is taken for granted spelt out; without torch, as settled.
        composition: to be stored for its jobs.
        settings: of the launcher.
        shape: what each of its jobs asks for.
        wanted: how the sweep's record knows it.
        notes: lines to print.
    """

    config: Config
    checked: Config
    composition: Composition
    settings: LauncherSettings
    shape: Shape
    wanted: Wanted
    notes: tuple[str, ...]

    @property
    def resources(self) -> str:
        """What must be equal in points that share a script."""
        return f"{self.settings!r} {self.config.site!r} {self.config.container!r} {self.shape!r}"


def prepare(
    points: Iterable[tuple[Composition, Mapping[str, Any]]], cluster: Cluster | None
) -> Iterator[Prepared]:
    """Yield every point, checked whole.

    Args:
        points: what Hydra composed, and the settings of the launcher.
        cluster: what is known of it; None if there is none here.

    Raises:
        PipelineError: anything that the user can mend.
    """
    for composition, launcher in points:
        settings = parse_launcher(launcher)
        config = _settle(composition)
        checks.check_settings(settings, config.site, has_image=config.container.image is not None)
        num_gpus, gpu_notes = shape.count_gpus_of(config, settings, cluster)
        config = config.model_copy(
            update={"trainer": config.trainer.model_copy(update={"num_gpus": num_gpus})}
        )
        asked = shape.derive(config, settings, cluster)
        if cluster is not None:
            checks.check_against(cluster, settings, asked)
        checked = preflight.check(
            config,
            composition.given if config.run.resume in RESUME_WORDS else frozenset(),
            resources.arrange(config, num_gpus),
            has_torch=not settings.dry_run and trains_here(config),
        )
        yield Prepared(
            config=config,
            checked=checked.config,
            composition=_with_gpus(composition, num_gpus),
            settings=settings,
            shape=asked,
            wanted=_wanted(config, composition),
            notes=(*gpu_notes, *checked.notes),
        )


def trains_here(config: Config) -> bool:
    """Whether the jobs of a configuration train with packages that are installed here, too."""
    return config.container.image is None and importlib.util.find_spec("torch") is not None


def _settle(composition: Composition) -> Config:
    """Return the settled configuration; that of a run that is resumed is its own, with the changes asked for."""
    config = compose.settle(composition)
    if config.run.resume in RESUME_WORDS:
        return config
    run_dir = resume.locate(Path(config.run.resume))
    return resume.change(run_dir, config, composition.given - {"run.resume"})[0]


def _with_gpus(composition: Composition, num_gpus: int) -> Composition:
    """Return what is stored for the jobs: as Hydra composed it, with the GPUs that SLURM was asked for."""
    trainer = {**composition.tree["trainer"], "num_gpus": num_gpus}
    return replace(composition, tree={**composition.tree, "trainer": trainer})


def _wanted(config: Config, composition: Composition) -> Wanted:
    """Return how the sweep's record knows a point; a run that is resumed has been recorded as it was begun."""
    directory, identity = _chosen_directory(config), identity_of(config)
    if config.run.resume not in RESUME_WORDS and directory is not None:
        recorded = Sweep.open(home_of(directory) or directory).points
        identity = next((point.identity for point in recorded if point.directory == directory), identity)
    return Wanted(composition.overrides, identity, horizon_of(config), directory)


def _chosen_directory(config: Config) -> Path | None:
    if config.run.resume not in RESUME_WORDS:
        return Path(config.run.resume)
    return None if config.run.dir is None else Path(config.run.dir)


def refuse_shared_directories(points: Iterable[Prepared]) -> None:
    """Refuse several points that were given one directory.

    Raises:
        LaunchError: with the key.
    """
    owners: dict[Path, Prepared] = {}
    for point in points:
        directory = point.wanted.directory
        if directory is None:
            continue
        owner = owners.setdefault(directory, point)
        if owner is not point and owner.wanted.overrides != point.wanted.overrides:
            key = "run.dir" if point.config.run.resume in RESUME_WORDS else "run.resume"
            raise LaunchError(
                f"{key}={directory}: several points of this sweep would train in one directory; leave {key} out "
                "(hydra.sweep.dir=DIR chooses the folder of all of them)"
            )

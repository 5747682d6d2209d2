"""What a job asks for: nodes, tasks, GPUs and CPUs follow from the run; what contradicts it is refused."""

from dataclasses import dataclass

from pipeline.config.launcher_schema import LauncherSettings
from pipeline.config.schema import Config
from pipeline.errors import LaunchError
from pipeline.launch.slurm.cluster import Cluster, count_gpus


@dataclass(frozen=True)
class Shape:
    """Resources of one job.

    Attributes:
        nodes: how many.
        tasks_per_node: ranks on each.
        gpus_per_node: GPUs of each; 0 is the CPU.
        cpus_per_task: of each rank; None where they are counted per GPU.
        gres: generic resources, with the GPUs in it where the site wants them there.
    """

    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int | None
    gres: str | None


def count_gpus_of(
    config: Config, settings: LauncherSettings, cluster: Cluster | None
) -> tuple[int, list[str]]:
    """Return the GPUs of each node, which cannot be counted where jobs are submitted, and lines to print.

    Args:
        config: settled tree.
        settings: of the launcher.
        cluster: what is known of it; None if there is none here.

    Raises:
        LaunchError: two keys contradict each other, or `auto` has several answers.
    """
    asked = config.trainer.num_gpus
    own = {"gpus_per_node": settings.gpus_per_node}
    if count_gpus(settings.gres):
        own["gres"] = count_gpus(settings.gres)
    for key, count in own.items():
        if count is None:
            continue
        if asked not in ("auto", count):
            raise LaunchError(
                f"hydra.launcher.{key}={getattr(settings, key)} contradicts trainer.num_gpus={asked}; leave "
                f"hydra.launcher.{key} out, it follows trainer.num_gpus, or set trainer.num_gpus={count}"
            )
        asked = count
    if asked != "auto":
        return int(asked), []
    groups = cluster.groups_of(settings.partition) if cluster is not None else ()
    most = max((group.gpus for group in groups), default=0)
    if most:
        raise LaunchError(
            "trainer.num_gpus=auto: GPUs cannot be counted where jobs are submitted, and the nodes of partition "
            f"{groups[0].partition} have {most}; set trainer.num_gpus to 1 ... {most}, or to 0 for the CPU"
        )
    place = "no cluster to ask here" if cluster is None else "the partition has no GPUs"
    return 0, [f"trainer.num_gpus=auto: {place}, taken as 0; set it for a job on GPUs"]


def derive(config: Config, settings: LauncherSettings, cluster: Cluster | None) -> Shape:
    """Derive what a job asks for.

    Args:
        config: settled tree with its GPUs counted.
        settings: of the launcher.
        cluster: what is known of it; None if there is none here.

    Raises:
        LaunchError: a key of the launcher contradicts the run.
    """
    trainer = config.trainer
    assert isinstance(trainer.num_gpus, int)
    counter = "num_gpus" if trainer.num_gpus else "num_processes"
    tasks = trainer.num_gpus or trainer.num_processes
    for key, owner, count in (
        ("nodes", "num_nodes", trainer.num_nodes),
        ("tasks_per_node", counter, tasks),
    ):
        given = getattr(settings, key)
        if given not in (None, count):
            raise LaunchError(
                f"hydra.launcher.{key}={given} contradicts trainer.{owner}={count}: the ranks would not make up one "
                f"run; leave hydra.launcher.{key} out, it follows trainer.{owner}, or set trainer.{owner}={given}"
            )
    if settings.cpus_per_gpu is not None and not trainer.num_gpus:
        raise LaunchError(
            f"hydra.launcher.cpus_per_gpu={settings.cpus_per_gpu}: this run has no GPUs (trainer.num_gpus=0); set "
            "hydra.launcher.cpus_per_task"
        )
    return Shape(
        nodes=trainer.num_nodes,
        tasks_per_node=tasks,
        gpus_per_node=trainer.num_gpus,
        cpus_per_task=_cpus_per_task(config, settings, cluster, tasks),
        gres=_gres(config, settings),
    )


def _cpus_per_task(
    config: Config, settings: LauncherSettings, cluster: Cluster | None, tasks: int
) -> int | None:
    """Return one for the rank and one for each of its data workers, as far as the nodes have them."""
    if settings.cpus_per_task is not None or settings.cpus_per_gpu is not None:
        return settings.cpus_per_task
    wanted = 1 + config.data.train_dataloader.num_workers
    if cluster is None:
        return wanted
    most = max((group.cpus for group in cluster.groups_of(settings.partition)), default=wanted * tasks)
    return max(1, min(wanted, most // tasks))


def _gres(config: Config, settings: LauncherSettings) -> str | None:
    """Return `--gres`, with the GPUs in it where the site wants them there."""
    per_node = config.trainer.num_gpus
    if not per_node or config.site.gpu_gres is None or count_gpus(settings.gres):
        return settings.gres
    gpus = f"{config.site.gpu_gres}:{per_node}"
    return gpus if settings.gres is None else f"{settings.gres},{gpus}"

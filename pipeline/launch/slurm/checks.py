"""What would go wrong on the cluster, refused before anything is submitted, with the remedy."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.launcher_schema import LauncherSettings
from pipeline.config.registry import suggest
from pipeline.config.site_schema import SiteSettings
from pipeline.errors import LaunchError
from pipeline.launch.slurm.cluster import Cluster, NodeGroup
from pipeline.launch.slurm.script import additional_parameters, python_of
from pipeline.launch.slurm.shape import Shape

_INTERACTIVE = ("bash", "interactive")
_NODE_LOCAL = ("/tmp", "/var/tmp", "/dev/shm")
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")

_LONG_NAME = re.compile(r"[a-z]\w+")
_OF_SRUN = re.compile(
    r"--(ntasks|nodes|kill-on-bad-exit|no-kill|wait|export|multi-prog|array)\b|-[nNKWk](\d|=| |$)"
)
_SIZES_MB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}

_LAUNCHER = {
    "job_name": "name",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "exclude": "exclude",
    "comment": "comment",
    "time": "timeout_min",
    "cpus_per_task": "cpus_per_task",
    "cpus_per_gpu": "cpus_per_gpu",
    "gres": "gres",
    "mem": "mem_gb",
    "mem_per_cpu": "mem_per_cpu",
    "mem_per_gpu": "mem_per_gpu",
}
_OWNERS = {
    **{option: f"set hydra.launcher.{key}" for option, key in _LAUNCHER.items()},
    **dict.fromkeys(
        ("output", "error"), "logs lie in the folder of the sweep; choose it with hydra.sweep.dir=DIR"
    ),
    "open_mode": "logs are appended to, or a restart would erase what came before it; leave it out",
    "array": "the points of a sweep make up the array; hydra.launcher.array_parallelism limits how many run at once",
    "nodes": "set trainer.num_nodes",
    **dict.fromkeys(
        ("ntasks", "ntasks_per_node", "ntasks_per_gpu", "gpus", "gpus_per_node"),
        "it follows from trainer.num_nodes, trainer.num_gpus and trainer.num_processes",
    ),
    "gpus_per_task": "it hides the other GPUs of the node from a rank, and NCCL needs to see all of them; set "
    "trainer.num_gpus",
    "wait": "set hydra.launcher.wait=true",
    "test_only": "set hydra.launcher.dry_run=true",
    "wrap": "the launcher writes the script; shell lines belong in hydra.launcher.setup",
}


def check_settings(settings: LauncherSettings, site: SiteSettings, *, has_image: bool = False) -> None:
    """Refuse settings that cannot work on any cluster.

    Args:
        settings: of the launcher.
        site: the cluster.
        has_image: whether jobs have the interpreter of an image.

    Raises:
        LaunchError: with the key and the remedy.
    """
    if settings.name in _INTERACTIVE:
        raise LaunchError(
            f"hydra.launcher.name={settings.name}: Lightning takes a job of this name for an interactive shell and its "
            "ranks would not find each other; choose another name"
        )
    if settings.timeout_min * 60 <= settings.signal_delay_s:
        raise LaunchError(
            f"hydra.launcher.timeout_min={settings.timeout_min} is over before training begins: the job is told to "
            f"save {settings.signal_delay_s} s before its end; raise hydra.launcher.timeout_min above "
            f"{settings.signal_delay_s / 60:g}, or lower hydra.launcher.signal_delay_s (which must leave time for the "
            "longest step and a save)"
        )
    _check_exclusive(settings, ("mem_gb", "mem_per_cpu", "mem_per_gpu"))
    _check_exclusive(settings, ("cpus_per_task", "cpus_per_gpu"))
    if not has_image:
        _check_python(settings)
    _check_additional(settings, site)
    _check_lines(settings, site)


def _check_exclusive(settings: LauncherSettings, keys: tuple[str, ...]) -> None:
    given = [key for key in keys if getattr(settings, key) is not None]
    if len(given) > 1:
        raise LaunchError(
            " and ".join(f"hydra.launcher.{key}={getattr(settings, key)}" for key in given)
            + ": sbatch takes one of them; leave the others out"
        )


def _check_python(settings: LauncherSettings) -> None:
    if shutil.which(python_of(settings)) is None:
        raise LaunchError(
            f"hydra.launcher.python={settings.python}: no such program; valid: the absolute path of an interpreter "
            "that the nodes see, or null for the one that submits"
        )


def _check_additional(settings: LauncherSettings, site: SiteSettings) -> None:
    """Refuse options that another key owns, and those that would keep a job from coming back."""
    given = additional_parameters(site, settings)
    for name, value in given.items():
        if not _LONG_NAME.fullmatch(name):
            raise _refused(
                settings, name, value, "options of sbatch have their long names here, as in mail-type"
            )
        if not isinstance(value, (str, int, float)) or not str(value).isprintable():
            raise _refused(settings, name, value, "an option of sbatch has one value, of one line")
        if name in _OWNERS:
            raise _refused(settings, name, value, _OWNERS[name])
        if name == "signal" and value != f"USR2@{settings.signal_delay_s}":
            raise _refused(
                settings,
                name,
                value,
                "jobs save on USR2; hydra.launcher.signal_delay_s says how long before the end",
            )
        if name in ("requeue", "no_requeue"):
            wants_requeue = (name == "requeue") == bool(value)
            if wants_requeue != site.requeue:
                raise _refused(settings, name, value, _requeue_remedy(site))
        elif value is False:
            raise _refused(
                settings, name, value, "an option of sbatch is given or left out; leave it out (null)"
            )


def _check_lines(settings: LauncherSettings, site: SiteSettings) -> None:
    """Refuse shell lines that sbatch would read, and arguments of srun that the launcher owns."""
    for key, lines in (("site.setup", site.setup), ("hydra.launcher.setup", settings.setup or ())):
        for text in (part for line in lines for part in line.splitlines() if part.startswith("#SBATCH")):
            raise LaunchError(
                f"{key}: {text}: sbatch would take it for an option of the job; options belong in "
                "hydra.launcher.additional_parameters"
            )
    for argument in settings.srun_args or ():
        if _OF_SRUN.match(argument):
            raise LaunchError(
                f"hydra.launcher.srun_args: {argument}: the ranks, their end and their environment are the launcher's; "
                "set trainer.num_nodes, trainer.num_gpus or trainer.num_processes, and leave it out"
            )


def _requeue_remedy(site: SiteSettings) -> str:
    if site.requeue:
        return (
            "a job that cannot be requeued is lost with its first preemption; leave it out, or set site.requeue=false "
            "where the site forbids requeueing: a chain of dependent jobs does the same then"
        )
    return "site.requeue=false says that this site forbids it; leave it out, or set site.requeue=true"


def _refused(settings: LauncherSettings, name: str, value: Any, remedy: str) -> LaunchError:
    own = {key.replace("-", "_"): key for key in map(str, settings.additional_parameters)}
    where = (
        f"hydra.launcher.additional_parameters.{own[name]}"
        if name in own
        else (f"site.additional_parameters.{name.replace('_', '-')}")
    )
    return LaunchError(f"{where}={value}: {remedy}")


def check_against(cluster: Cluster, settings: LauncherSettings, shape: Shape) -> None:
    """Refuse what the cluster does not have.

    Raises:
        LaunchError: an unknown partition, too long a limit, or more than any of its nodes offers.
    """
    asked = settings.partition
    for name in asked.split(",") if asked is not None else ():
        if name not in cluster.partitions:
            raise LaunchError(
                f"hydra.launcher.partition={name}: unknown to this cluster; {suggest(name, cluster.partitions)}"
            )
    groups = cluster.groups_of(asked)
    if not groups:
        raise LaunchError(
            "hydra.launcher.partition: not given, and this cluster has no default partition; "
            f"{suggest('', cluster.partitions)}"
        )
    called = asked or groups[0].partition
    limits = [group.max_minutes for group in groups]
    longest = None if None in limits else max(limit for limit in limits if limit is not None)
    if longest is not None and settings.timeout_min > longest:
        raise LaunchError(
            f"hydra.launcher.timeout_min={settings.timeout_min}: partition {called} allows {longest}; set it to "
            f"{longest} or less: a run that needs longer saves in time, comes back and goes on"
        )
    _check_size(cluster, called, asked, shape)
    _check_memory(groups, called, settings, shape)


def _check_memory(groups: Sequence[NodeGroup], called: str, settings: LauncherSettings, shape: Shape) -> None:
    if settings.mem_gb is not None:
        key, given, wanted_mb = "mem_gb", str(settings.mem_gb), settings.mem_gb * 1024
    elif settings.mem_per_cpu is not None:
        key, given = "mem_per_cpu", settings.mem_per_cpu
        cpus = shape.tasks_per_node * (shape.cpus_per_task or 1)
        wanted_mb = int(given.rstrip("KMGT")) * _SIZES_MB.get(given[-1], 1.0) * cpus
    else:
        return
    most_mb = max(group.memory_mb for group in groups)
    if wanted_mb > most_mb > 1:  # 1: the administrators have not said
        raise LaunchError(
            f"hydra.launcher.{key}={given}: {wanted_mb / 1024:g} GB a node, and the nodes of partition {called} have "
            f"{most_mb / 1024:.1f} GB; lower hydra.launcher.{key} (null: what the partition gives)"
        )


def _check_size(cluster: Cluster, called: str, asked: str | None, shape: Shape) -> None:
    groups = cluster.groups_of(asked)
    cpus = shape.tasks_per_node * (shape.cpus_per_task or 1)
    most_cpus, most_gpus = max(group.cpus for group in groups), max(group.gpus for group in groups)
    if shape.gpus_per_node > most_gpus:
        raise LaunchError(
            f"trainer.num_gpus={shape.gpus_per_node}: the nodes of partition {called} have {most_gpus or 'no'} GPUs; "
            f"set trainer.num_gpus to {most_gpus or '0, or choose another hydra.launcher.partition'}"
        )
    if cpus > most_cpus:
        raise LaunchError(
            f"{shape.tasks_per_node} ranks a node with hydra.launcher.cpus_per_task={shape.cpus_per_task} need {cpus} "
            f"CPUs, and the nodes of partition {called} have {most_cpus}; lower hydra.launcher.cpus_per_task (null: as "
            "many as there are), trainer.num_gpus or trainer.num_processes"
        )
    fitting = {
        name: sum(
            group.nodes
            for group in groups
            if group.partition == name and group.cpus >= cpus and group.gpus >= shape.gpus_per_node
        )
        for name in {group.partition for group in groups}
    }
    if shape.nodes > max(fitting.values()):
        raise LaunchError(
            f"trainer.num_nodes={shape.nodes}: partition {called} has {max(fitting.values())} nodes of {cpus} CPUs and "
            f"{shape.gpus_per_node} GPUs; lower trainer.num_nodes, or choose another hydra.launcher.partition"
        )


_SHARE_FOLDER = (
    "choose a folder on the shared file system: set EULER_RUNS for all runs, hydra.sweep.dir, or run.dir"
)


def check_shared(key: str, path: Path, remedy: str = _SHARE_FOLDER) -> str | None:
    """Return the sentence for a path that the nodes of a cluster do not see, None for one that they may see."""
    reason = _why_not_shared(path)
    if reason is None:
        return None
    return f"{key}={path}: {reason}, and the nodes of a job must see it; {remedy}"


def _why_not_shared(path: Path) -> str | None:
    path = path.absolute()
    local = [Path(folder) for folder in (*_NODE_LOCAL, tempfile.gettempdir())]
    for folder in local:
        if path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve()):
            return f"{folder} is each machine's own"
    kind = _file_system(path.resolve())
    return f"it lies in this machine's memory ({kind})" if kind in _IN_MEMORY else None


def _file_system(path: Path) -> str | None:
    """Return the type of the file system of a path; None where the system does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found, depth = None, -1
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4].encode().decode("unicode_escape"))
        if path.is_relative_to(mount) and len(mount.parts) >= depth:
            found, depth = after.split()[0], len(mount.parts)
    return found

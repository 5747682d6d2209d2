"""The SLURM cluster that this machine can submit to: what its partitions offer, and the way to `sbatch`."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LaunchError

_ROOT = Path(__file__).resolve().parents[3]
_TIMEOUT_S = 30.0
_LOOPBACK = re.compile(r"localhost|127\..*|::1")
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_LOOK_AT_IT = "hydra.launcher.dry_run=true shows the script"
_OPTIONS = "mend hydra.launcher.additional_parameters or site.additional_parameters"
_REMEDIES = (  # signs in the words of sbatch -> what helps
    (
        ("violates",),
        "ask for less: hydra.launcher.timeout_min, trainer.num_nodes or fewer jobs, or set hydra.launcher.qos",
    ),
    (
        ("account",),
        "set hydra.launcher.account or site.account; `sacctmgr show associations user=$USER` shows yours, and for "
        "which partitions",
    ),
    (
        ("qos",),
        "set hydra.launcher.qos or site.qos; `sacctmgr show associations user=$USER format=qos` shows yours",
    ),
    (
        ("feature",),
        "set hydra.launcher.constraint or site.constraint; `sinfo -o '%P %f'` shows what there is",
    ),
    (("mem_per_tres", "gres"), "set trainer.num_gpus, hydra.launcher.gres or hydra.launcher.mem_per_gpu"),
    (
        ("memory",),
        "lower hydra.launcher.mem_gb or hydra.launcher.mem_per_cpu; `sinfo -o '%P %m'` shows MB a node",
    ),
    (("node name",), f"mend hydra.launcher.exclude, or {_OPTIONS}; `sinfo -N` shows the names of nodes"),
    (
        ("node configuration", "cpu count"),
        f"ask for less: hydra.launcher.mem_gb, cpus_per_task, exclude and constraint, or {_OPTIONS}; `sinfo -o '%P %D "
        "%c %m %f %G'` shows what there is",
    ),
    (
        ("option", "argument", "specification", "reservation", "dependency", "numeric value"),
        f"{_OPTIONS}; {_LOOK_AT_IT}",
    ),
)
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of one kind in one partition.

    Attributes:
        partition: name.
        is_default: whether jobs that name no partition come here.
        max_minutes: longest time limit; None for no limit.
        nodes: how many there are.
        cpus: of each.
        gpus: of each.
        memory_mb: of each.
    """

    partition: str
    is_default: bool
    max_minutes: int | None
    nodes: int
    cpus: int
    gpus: int
    memory_mb: int


@dataclass(frozen=True)
class Cluster:
    """What a cluster offers.

    Attributes:
        groups: kinds of nodes, partition by partition.
    """

    groups: tuple[NodeGroup, ...]

    @classmethod
    def read(cls, text: str) -> "Cluster":
        """Read what `sinfo -h -a -e -o "%P|%l|%D|%c|%G|%m"` prints."""
        return cls(tuple(_read_group(line) for line in text.splitlines()))

    @property
    def partitions(self) -> tuple[str, ...]:
        """Names of the partitions, the default one first."""
        ordered = sorted(self.groups, key=lambda group: not group.is_default)
        return tuple(dict.fromkeys(group.partition for group in ordered))

    def groups_of(self, partition: str | None) -> tuple[NodeGroup, ...]:
        """Return the nodes that a job may get.

        Args:
            partition: name, or several with commas between them; None: the default one.
        """
        names = None if partition is None else partition.split(",")
        return tuple(
            group
            for group in self.groups
            if (group.is_default if names is None else group.partition in names)
        )


def has_sbatch() -> bool:
    """Return whether jobs can be submitted from here."""
    return shutil.which("sbatch") is not None


def ask() -> Cluster:
    """Ask the cluster what it offers.

    Raises:
        LaunchError: it does not answer.
    """
    answer = _run("sinfo", "-h", "-a", "-e", "-o", "%P|%l|%D|%c|%G|%m")
    if answer.returncode:
        raise LaunchError(
            f"the SLURM cluster does not answer ({_words(answer)}); try `sinfo` until it does, or look at the scripts "
            "with hydra.launcher.dry_run=true"
        )
    return Cluster.read(answer.stdout)


def _read_group(line: str) -> NodeGroup:
    name, limit, nodes, cpus, gres, memory = line.split("|")
    return NodeGroup(
        partition=name.removesuffix("*"),
        is_default=name.endswith("*"),
        max_minutes=_minutes(limit),
        nodes=int(nodes),
        cpus=int(cpus.removesuffix("+")),
        gpus=count_gpus(gres),
        memory_mb=int(memory.removesuffix("+")),
    )


def _minutes(limit: str) -> int | None:
    """Return a time of sinfo, `D-HH:MM:SS` or shorter, in minutes; None for `infinite`."""
    found = _TIME.fullmatch(limit)
    if found is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (24 * days + hours) * 60 + minutes


def count_gpus(gres: str | None) -> int:
    """Return the GPUs in a list of generic resources like `gpu:a100:4(S:0-1),shard:8`."""
    count = 0
    for item in re.sub(r"\([^)]*\)", "", gres or "").split(","):
        name, *rest = item.removeprefix("gres/").removeprefix("gres:").split(":")
        if name == "gpu":
            count += int(rest[-1]) if rest and rest[-1].isdecimal() else 1
    return count


def is_this_host() -> bool:
    """Return whether every node of the cluster is this very machine, as in a cluster for tests."""
    answer = _run("scontrol", "show", "node", "--oneliner")
    addresses = re.findall(r"\bNodeAddr=(\S+)", answer.stdout)
    return bool(addresses) and all(_LOOPBACK.fullmatch(address) for address in addresses)


def try_out(script: Path) -> tuple[bool, str]:
    """Return whether the cluster would take a script, and what it says to it; nothing is submitted."""
    answer = _run("sbatch", "--test-only", str(script))
    return answer.returncode == 0, _words(answer)


def submit(script: Path, *arguments: str) -> str:
    """Submit a script and return the number of the job.

    Args:
        script: the batch script.
        arguments: further options of sbatch.

    Raises:
        LaunchError: the cluster refuses it.
    """
    answer = _run("sbatch", "--parsable", *arguments, str(script))
    number = answer.stdout.strip().partition(";")[0]
    if answer.returncode or not number.isdecimal():
        raise LaunchError(f"sbatch refuses {script}: {_words(answer)}; {remedy(_words(answer))}")
    return number


def remedy(words: str) -> str:
    """Return what helps against a refusal of sbatch.

    Args:
        words: that it was told in.
    """
    said = words.lower()
    return next((text for signs, text in _REMEDIES if any(sign in said for sign in signs)), _LOOK_AT_IT)


def environment() -> dict[str, str]:
    """Return this process's environment without what would change a job behind the back of its script.

    `SBATCH_*` wins over the lines of a script, and the `SLURM_*` of an interactive job limits the steps of the new one.
    Jobs import a copy of the code, never this one.
    """
    paths = [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(_ROOT))
    ]
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(("SBATCH_", "SLURM_", "SRUN_", "PYTHONPATH"))
    }
    return kept | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, env=environment()
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: no such command")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]}: no answer in {_TIMEOUT_S:.0f} s")


def _words(answer: subprocess.CompletedProcess[str]) -> str:
    """Return what a command has said, in one line."""
    said: Sequence[str] = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return "; ".join(line.strip() for line in said) or f"exit code {answer.returncode}"

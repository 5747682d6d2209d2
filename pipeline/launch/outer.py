"""Ranks that another program starts: torchrun, srun with a wrapper, or anything else that sets the same variables."""

import os
from dataclasses import dataclass

from pipeline.errors import LaunchError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SEVERAL_NODES = (
    "several nodes are started by the SLURM launcher (python train.py -m hydra/launcher=submitit_slurm ...), or by "
    "torchrun on every node (torchrun --nnodes N --nproc-per-node M --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
    "train.py ...)"
)


_OF_SLURM = {
    "RANK": "SLURM_PROCID",
    "WORLD_SIZE": "SLURM_NTASKS",
    "LOCAL_RANK": "SLURM_LOCALID",
    "NODE_RANK": "SLURM_NODEID",
}


@dataclass(frozen=True)
class Place:
    """Where this process stands among the ranks of a run.

    Attributes:
        rank: number among all ranks.
        world_size: ranks over all nodes.
        local_rank: number among the ranks of this node.
        address: host of rank 0.
        port: where rank 0, or the launcher in its place, listens there.
        served: whether the launcher listens there itself.
        attempt: how often the launcher has started these ranks before.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str
    port: int
    served: bool
    attempt: int


def find_place() -> Place | None:
    """Return this process's place in the run of an outer launcher, None for a process that was started alone.

    The ranks that `pipeline.launch.processes` starts have a place as well.

    Raises:
        LaunchError: some of the variables are missing, or they make no sense.
    """
    given = {name for name in _VARIABLES if os.environ.get(name)}
    if not {"RANK", "WORLD_SIZE"} <= given:
        return None
    missing = [name for name in _VARIABLES if name not in given]
    if missing:
        # a container platform may describe its one machine like this, where this project starts the ranks itself
        if os.environ["WORLD_SIZE"] == "1":
            return None
        raise LaunchError(
            f"RANK and WORLD_SIZE={os.environ['WORLD_SIZE']} are set but not {', '.join(missing)}: a launcher of ranks "
            f"sets all of {', '.join(_VARIABLES)}; set them for every rank, or unset RANK to start the ranks from here"
        )
    rank, world_size, local_rank = _number("RANK"), _number("WORLD_SIZE"), _number("LOCAL_RANK")
    if rank >= world_size:
        raise LaunchError(f"RANK={rank} with WORLD_SIZE={world_size}; valid: 0 to {world_size - 1}")
    return Place(
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        address=os.environ["MASTER_ADDR"],
        port=_number("MASTER_PORT"),
        served=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=_number("TORCHELASTIC_RESTART_COUNT") if os.environ.get("TORCHELASTIC_RESTART_COUNT") else 0,
    )


def take_place_of_task() -> None:
    """Say in the variables of all launchers where this task of srun stands; MASTER_ADDR and MASTER_PORT are the job's.

    Raises:
        LaunchError: srun has not started this process.
    """
    missing = [name for name in _OF_SLURM.values() if not os.environ.get(name)]
    if missing:
        raise LaunchError(f"{', '.join(missing)}: not set; srun sets them, see slurm/job.sh, which calls it")
    os.environ.update({name: os.environ[source] for name, source in _OF_SLURM.items()})


def ranks_here(num_nodes: int) -> int | None:
    """Return how many ranks the launcher has started on this node, None without a launcher.

    Args:
        num_nodes: nodes of the run, for launchers that do not say it.
    """
    place = find_place()
    if place is None:
        return None
    if os.environ.get("LOCAL_WORLD_SIZE"):
        return _number("LOCAL_WORLD_SIZE")
    return max(1, place.world_size // num_nodes)


def check_counts(place: Place, processes_per_node: int, num_nodes: int, key: str) -> None:
    """Refuse a launcher that has started other ranks than the configuration asks for.

    Args:
        place: of this process.
        processes_per_node: ranks on each node that the configuration asks for.
        num_nodes: nodes that it asks for.
        key: what counts the processes of a node, `trainer.num_gpus` or `trainer.num_processes`.

    Raises:
        LaunchError: with both numbers.
    """
    asked = processes_per_node * num_nodes
    if place.world_size != asked:
        raise LaunchError(
            f"the launcher has started {place.world_size} rank(s) (WORLD_SIZE), but trainer.num_nodes={num_nodes} x "
            f"{key}={processes_per_node} asks for {asked}; make the two agree: trainer.num_nodes and {key} on the "
            "command line, --nnodes and --nproc-per-node of torchrun, --nodes and --ntasks-per-node of srun"
        )
    if place.local_rank != place.rank % processes_per_node:
        raise LaunchError(
            f"rank {place.rank} has LOCAL_RANK={place.local_rank}, but ranks are numbered node by node, "
            f"{processes_per_node} on each: {place.rank % processes_per_node} is expected; torchrun does so, and srun "
            "with --distribution=block"
        )


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise LaunchError(f"{name}={text!r}: a whole number is expected; the launcher of the ranks sets it")
    return int(text)

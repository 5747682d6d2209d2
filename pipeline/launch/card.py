"""What a rank says about itself in the roll call: where it is, what it has, and what it is about to run."""

import importlib.metadata
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.launch.code import code_digest
from pipeline.launch.directory import RunDirectory, runs_root
from pipeline.launch.form import find_compiler
from pipeline.launch.provenance import driver
from pipeline.training.ranks.host import host_name

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "triton", "pytorch-lightning", "deepspeed")


@dataclass(frozen=True)
class Device:
    """What a rank trains on.

    Attributes:
        name: model of the GPU, or `CPU`.
        identity: tells one GPU from all others; None on the CPU.
        driver: version of its driver; None on the CPU, or where it is not shown.
        free_bytes: free GPU memory; None on the CPU.
        total_bytes: GPU memory in all; None on the CPU.
    """

    name: str
    identity: str | None = None
    driver: str | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True)
class Card:
    """One rank.

    Attributes:
        rank: number among all ranks.
        host: name of its machine.
        problem: why it cannot take part; None if it can.
        world_size: ranks that it expects.
        code: digest of the program.
        code_place: where the program lies.
        versions: of Python and the packages that compute, and on a GPU whether passes can be compiled.
        config: composed configuration.
        device: what it trains on.
        free_memory_bytes: free memory of the host; None where it is not shown.
        disk: where the run writes.
        free_disk_bytes: free space there.
    """

    rank: int
    host: str
    problem: str | None
    world_size: int
    code: str
    code_place: str
    versions: dict[str, str]
    config: dict[str, Any]
    device: Device
    free_memory_bytes: int | None
    disk: str
    free_disk_bytes: int

    @property
    def name(self) -> str:
        """The rank and its host."""
        return f"rank {self.rank} on {self.host}"

    @classmethod
    def read(cls, told: dict[str, Any]) -> "Card":
        """Return a card that another rank has told."""
        return cls(**{**told, "device": Device(**told["device"])})


def fill_in(rank: int, world_size: int, config: Config, device: Device, problem: str | None = None) -> Card:
    """Return the card of this process.

    Args:
        rank: number among all ranks.
        world_size: ranks in all.
        config: composed configuration, as this rank sees it.
        device: what it trains on.
        problem: why it cannot take part.
    """
    disk = _existing(RunDirectory.of(config).checkpoints if config.run.dir else runs_root(config.run.name))
    return Card(
        rank=rank,
        host=host_name(),
        problem=problem,
        world_size=world_size,
        code=code_digest(ROOT),
        code_place=str(ROOT),
        versions=_versions(device),
        config=config.model_dump(mode="json"),
        device=device,
        free_memory_bytes=_free_memory(),
        disk=str(disk),
        free_disk_bytes=shutil.disk_usage(disk).free,
    )


def describe_device(use_gpu: bool, local_rank: int) -> Device:
    """Return what a rank of this node trains on."""
    if not use_gpu:
        return Device("CPU")
    import torch  # a rank is about to train

    found = torch.cuda.get_device_properties(local_rank)
    free, total = torch.cuda.mem_get_info(local_rank)
    return Device(found.name, str(found.uuid), driver(), free, total)


def _versions(device: Device) -> dict[str, str]:
    versions = {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}
    if device.identity is None:
        return versions
    return {**versions, "C compiler": "there" if find_compiler() else "missing"}


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found[1]) * 1024


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"

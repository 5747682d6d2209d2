"""Ranks that something else than this project starts: torchrun, or a line of a job script for each."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.integration.background import environment
from tests.integration.runs import ROOT

TIMEOUT_S = 240
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ON_TWO = ("trainer.num_gpus=0", "trainer.num_processes=2")


@dataclass(frozen=True)
class Ended:
    """A rank that has ended."""

    code: int
    output: str
    errors: str


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Ranks:
    """Starts ranks one by one, as an outer launcher does."""

    def __init__(self, runs: Path, cache: Path, world_size: int) -> None:
        self._variables = environment(runs, cache) | {
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, rank: int, *arguments: str, tree: Path = ROOT, local_rank: int | None = None) -> None:
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank if local_rank is None else local_rank)}
        process = subprocess.Popen(
            [sys.executable, str(tree / "train.py"), *arguments],
            env=self._variables | place,
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)

    def end(self) -> list[Ended]:
        """Wait for all, in the order of their starts."""
        try:
            outputs = [process.communicate(timeout=TIMEOUT_S) for process in self._started]
        finally:
            for process in self._started:
                process.kill()
        return [
            Ended(process.returncode, *texts) for process, texts in zip(self._started, outputs, strict=True)
        ]


def torchrun(runs: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `torchrun --nproc-per-node 2 train.py ARGUMENTS`."""
    return subprocess.Popen(
        [*TORCHRUN, "--master-port", str(free_port()), str(ROOT / "train.py"), *ON_TWO, *arguments],
        env=environment(runs, cache) | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

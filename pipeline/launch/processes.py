"""The ranks of one node as processes: started together, ended together, the first to fail is named."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.resources import Resources

_GRACE_S = 10.0
_POLL_S = 0.2


def run_ranks(run_dir: Path, resources: Resources) -> None:
    """Run every rank of this node as `python -m pipeline.launch.rank RUN_DIR` and wait for all.

    Raises:
        LaunchError: a rank ended with an error; the others were stopped within ten seconds.
    """
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(resources.world_size),
        "NODE_RANK": "0",
    }
    if not resources.use_gpu:
        threads = max(1, len(os.sched_getaffinity(0)) // resources.processes_per_node)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    ranks = [_start(run_dir, rank, environment) for rank in range(resources.processes_per_node)]
    try:
        _wait(ranks)
    finally:
        _stop(ranks)


def _start(run_dir: Path, rank: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.launch.rank", str(run_dir)]
    return subprocess.Popen(command, env={**environment, "LOCAL_RANK": str(rank), "RANK": str(rank)})


def _wait(ranks: list[subprocess.Popen[bytes]]) -> None:
    running = dict(enumerate(ranks))
    while running:
        for rank, process in list(running.items()):
            code = process.poll()
            if code is None:
                continue
            del running[rank]
            if code != 0:
                how = (
                    f"was killed by signal {signal.Signals(-code).name}"
                    if code < 0
                    else f"ended with exit code {code}"
                )
                others = ", ".join(str(other) for other in running) or "none"
                raise LaunchError(f"rank {rank} {how}; the others ({others}) were stopped")
        time.sleep(_POLL_S)


def _stop(ranks: list[subprocess.Popen[bytes]]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for process in ranks:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

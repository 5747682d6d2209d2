"""The ranks of one node as processes: started together, stopped together, the first to fail is named."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.preemption import RESUME_EXIT_CODE, stop_signals
from pipeline.launch.resources import Resources

_log = logging.getLogger(__name__)
_Ranks = list[subprocess.Popen[bytes]]

_GRACE_S = 10.0  # for ranks whose peer has failed: they have nothing to save
_LEAVE_GRACE_S = 30.0  # for ranks whose peer has left to be resumed: blocked in a library, they do not notice
_POLL_S = 0.2


def run_ranks(run_dir: Path, resources: Resources, lock: int) -> None:
    """Run every rank of this node as `python -m pipeline.launch.rank RUN_DIR PARENT BEGAN` and wait for all.

    A signal is passed on to all ranks, which agree on a step, save, and leave. No rank outlives this process.

    Args:
        run_dir: the run.
        resources: how many ranks, and on what.
        lock: descriptor of the run's lock, which every rank holds as well.

    Raises:
        LaunchError: a rank ended with an error; the others were stopped within ten seconds.
        SystemExit: the ranks have left to be resumed; its code says so.
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
    ranks: _Ranks = []
    stop_signals.defer(
        f"passed on to {resources.processes_per_node} processes; a second SIGINT stops at once",
        before_abort=partial(_kill, ranks),
    )
    try:
        for rank in range(resources.processes_per_node):
            ranks.append(_start(run_dir, rank, environment, lock))
        codes = _wait(ranks)
    finally:
        _stop(ranks)
    if RESUME_EXIT_CODE in codes.values():
        raise SystemExit(RESUME_EXIT_CODE)


def _start(run_dir: Path, rank: int, environment: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipeline.launch.rank",
            str(run_dir),
            str(os.getpid()),
            str(stop_signals.began_s),
        ],
        env={**environment, "LOCAL_RANK": str(rank), "RANK": str(rank)},
        start_new_session=True,  # a terminal's Ctrl-C reaches this process only, which passes it on once
        pass_fds=(lock,),
    )


def _wait(ranks: _Ranks) -> dict[int, int]:
    """Return rank -> exit code, in the order of their ends; a rank that obeyed a stop counts as resumable."""
    codes: dict[int, int] = {}
    passed_on, deadline = False, None
    while len(codes) < len(ranks):
        if stop_signals.received and not passed_on:
            passed_on = True
            for process in ranks:
                process.terminate()
        _collect(ranks, codes, passed_on)
        if any(code not in (0, RESUME_EXIT_CODE) for code in codes.values()):
            time.sleep(_POLL_S)  # the rank that failed first takes others down, which may be seen before it
            _collect(ranks, codes, passed_on)
            _judge(ranks, codes)
        if RESUME_EXIT_CODE in codes.values():
            deadline = deadline or time.monotonic() + _LEAVE_GRACE_S
            if time.monotonic() > deadline:
                _end_stragglers(ranks, codes)
        time.sleep(_POLL_S)
    return codes


def _collect(ranks: _Ranks, codes: dict[int, int], passed_on: bool) -> None:
    for rank, process in enumerate(ranks):
        code = process.poll()
        if code is not None and rank not in codes:
            # SIGTERM finds a rank whose interpreter is still starting without a handler
            obeyed = passed_on and code == -signal.SIGTERM
            codes[rank] = RESUME_EXIT_CODE if obeyed else code


def _judge(ranks: _Ranks, codes: dict[int, int]) -> None:
    """Name the rank that failed, unless others left to be resumed: what fails then has lost its peers."""
    failed = {rank: code for rank, code in codes.items() if code not in (0, RESUME_EXIT_CODE)}
    if RESUME_EXIT_CODE in codes.values():
        for rank, code in failed.items():
            _log.warning("rank %d %s while the run was stopping", rank, _how(code))
            codes[rank] = RESUME_EXIT_CODE
        return
    rank = min(
        failed, key=lambda rank: failed[rank] > 0
    )  # the first, but one that was killed before one that raised
    others = ", ".join(str(other) for other in range(len(ranks)) if other not in codes) or "none"
    raise LaunchError(f"rank {rank} {_how(codes[rank])}; the others ({others}) were stopped")


def _how(code: int) -> str:
    return (
        f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    )


def _end_stragglers(ranks: _Ranks, codes: dict[int, int]) -> None:
    for rank, process in enumerate(ranks):
        if rank not in codes:
            _log.warning("rank %d did not end within %.0f s of its peers: killed", rank, _LEAVE_GRACE_S)
            process.kill()
            process.wait()
            codes[rank] = RESUME_EXIT_CODE


def _stop(ranks: _Ranks) -> None:
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


def _kill(ranks: _Ranks) -> None:
    for process in ranks:
        process.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

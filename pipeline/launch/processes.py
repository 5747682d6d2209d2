"""The ranks of one node as processes: started together, stopped together, the first to fail is named."""

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.preemption import RESUME_EXIT_CODE, STALLED_EXIT_CODE, stop_signals
from pipeline.launch.resources import Resources

_log = logging.getLogger(__name__)
_Ranks = list[subprocess.Popen[bytes]]

_GRACE_S = 10.0  # for ranks whose peer has failed: they have nothing to save
_LEAVE_GRACE_S = 30.0  # for ranks whose peer has left to be resumed: blocked in a library, they do not notice
_STALLED_GRACE_S = 3.0  # for ranks of a run that hangs: those that can end have been told to
_KILL_GRACE_S = 3.0  # a process that waits for a disk in the kernel does not even end when it is killed
_POLL_S = 0.2
_RESUMABLE = (RESUME_EXIT_CODE, STALLED_EXIT_CODE)


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
    if set(_RESUMABLE) & set(codes.values()):
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
    passed_on, began = False, 0.0
    while len(codes) < len(ranks):
        if stop_signals.received and not passed_on:
            passed_on = True
            for process in ranks:
                process.terminate()
        _collect(ranks, codes, passed_on)
        if any(code not in (0, *_RESUMABLE) for code in codes.values()):
            time.sleep(_POLL_S)  # the rank that failed first takes others down, which may be seen before it
            _collect(ranks, codes, passed_on)
            _judge(ranks, codes)
        if left := set(_RESUMABLE) & set(codes.values()):
            grace_s = _STALLED_GRACE_S if STALLED_EXIT_CODE in left else _LEAVE_GRACE_S
            began = began or time.monotonic()
            _end_stragglers(ranks, codes, grace_s, is_late=time.monotonic() - began > grace_s)
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
    failed = {rank: code for rank, code in codes.items() if code not in (0, *_RESUMABLE)}
    if set(_RESUMABLE) & set(codes.values()):
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


def _end_stragglers(ranks: _Ranks, codes: dict[int, int], grace_s: float, is_late: bool) -> None:
    """Kill the ranks that can no longer leave: the stopped ones at once, all others when it is late."""
    for rank, process in enumerate(ranks):
        if rank in codes:
            continue
        if is_stopped(process.pid):
            _log.warning("rank %d (process %d) was stopped by a signal: killed", rank, process.pid)
        elif is_late:
            _log.warning("rank %d did not end within %.0f s of its peers: killed", rank, grace_s)
        else:
            continue
        _kill_and_wait(process)
        codes[rank] = RESUME_EXIT_CODE


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped (SIGSTOP, a debugger): it can obey nothing but SIGKILL.

    Args:
        pid: the process; one that is gone, or a system without /proc, gives False.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")


def _stop(ranks: _Ranks) -> None:
    for process in ranks:
        if process.poll() is None:
            process.kill() if is_stopped(process.pid) else process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for process in ranks:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill_and_wait(process)


def _kill_and_wait(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.wait(timeout=_KILL_GRACE_S)
    except subprocess.TimeoutExpired:
        _log.warning("process %d cannot even be killed: it waits for a disk or a device", process.pid)


def _kill(ranks: _Ranks) -> None:
    for process in ranks:
        process.kill()


def _free_port() -> int:
    """Return a port for rank 0, which listens there some seconds later.

    The system gives ports of a range of its own to every connection that is made meanwhile; below it, only runs that
    start in these seconds draw, and rarely the same.
    """
    for _ in range(_DRAWS):
        drawn = _PORTS.start + secrets.randbelow(len(_PORTS)) if len(_PORTS) > _DRAWS else 0
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", drawn))
            return int(listener.getsockname()[1])
    raise LaunchError("no free TCP port on 127.0.0.1 for the processes of this run to meet at")


def _ports_of_connections() -> int:
    """Return the first of the ports that the system gives to connections."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


_PORTS = range(20000, _ports_of_connections())
_DRAWS = 64

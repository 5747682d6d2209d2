"""The first collective of a run: on its devices, with a known result, and within a bounded time."""

import atexit
import logging
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.errors import PeerError
from pipeline.training.ranks.meeting import Meeting
from pipeline.training.ranks.verdict import Verdict, named

_log = logging.getLogger(__name__)

CONTACT_S = 30.0
"""Within this time all ranks reach each other, or the run ends."""

_TOPIC = "contact"
_NUM_VALUES = 2**18
_PERIOD = 251  # the sums of whole numbers below it are exact in float32 on any number of ranks that there is
_REPEATS = 3
_POLL_S = 0.0002
_SOCKETS = re.compile(r"via NET/Socket")


def contact(meeting: Meeting, use_gpu: bool, local_rank: int, name: str, timeout: timedelta) -> Verdict:
    """Connect all ranks and let each check the result of an all-reduce.

    A rank that cannot is ended by a thread, since libraries wait for each other without an end; the message names the
    ranks that have not come through.

    Args:
        meeting: of all ranks.
        use_gpu: NCCL on GPUs, gloo on the CPU.
        local_rank: number of this rank's GPU.
        name: of this rank, for messages.
        timeout: of the collectives of training.

    Raises:
        PeerError: another rank has ended meanwhile, or a library refuses.
    """
    device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
        atexit.register(_disconnect)  # NCCL warns of groups that are left open
    with _bounded(meeting, name), _nccl_log(use_gpu) as log:
        try:
            meeting.connect(device, timeout)
            wrong, duration_s = _checked_all_reduce(device, meeting.rank, meeting.world_size)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise PeerError(f"{name}: the ranks did not reach each other ({reason})") from None
        own = {"name": name, "wrong": wrong, "ms": 1e3 * duration_s, "sockets": uses_sockets(log)}
        return meeting.council(_TOPIC, own, CONTACT_S, partial(judge_contact, meeting.world_size))


def judge_contact(world_size: int, told: dict[int, Any]) -> Verdict:
    """Judge what the ranks have found.

    Args:
        world_size: ranks in all.
        told: rank -> its name, wrong values, time in milliseconds, and whether it uses sockets.
    """
    wrong = [
        (
            rank,
            f"{report['name']}: an all-reduce over {world_size} ranks gave {report['wrong']} wrong values of "
            f"{_NUM_VALUES}; take this host out, its device or its network is damaged",
        )
        for rank, report in told.items()
        if report["wrong"]
    ]
    absent = [rank for rank in range(world_size) if rank not in told]
    lost = [(absent[0], f"{named(absent)} did not come through the first all-reduce")] if absent else []
    on_sockets = [report["name"] for report in told.values() if report["sockets"]]
    warnings = []
    if on_sockets:
        warnings.append(
            f"NCCL fell back to sockets on {', '.join(on_sockets)}: training waits for the network; NCCL_DEBUG=INFO "
            "says why it found no InfiniBand, NVLink or shared memory (NCCL_IB_HCA and NCCL_SOCKET_IFNAME choose)"
        )
    slowest_ms = max((report["ms"] for report in told.values()), default=0.0)
    line = f"all-reduce ok ({slowest_ms:.1f} ms)"
    return Verdict([*wrong, *lost], warnings, line, is_loss=bool(lost) and not wrong)


def _checked_all_reduce(device: torch.device, rank: int, world_size: int) -> tuple[int, float]:
    """Return how many values are wrong, and the shortest time of an all-reduce of 1 MiB in seconds."""
    base = torch.arange(_NUM_VALUES, device=device, dtype=torch.float32) % _PERIOD
    expected = base * world_size + world_size * (world_size - 1) / 2
    wrong, shortest_s = 0, float("inf")
    for _ in range(_REPEATS):  # the first opens the connections
        values = base + rank
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        work = dist.all_reduce(values, async_op=True)
        assert work is not None
        while not work.is_completed():  # and not wait(), which no signal could end
            time.sleep(_POLL_S)
        work.wait()
        shortest_s = min(shortest_s, time.perf_counter() - began)
        wrong = max(wrong, int((values != expected).sum()))
    return wrong, shortest_s


@contextmanager
def _bounded(meeting: Meeting, name: str) -> Iterator[None]:
    """End the process if what is done within takes longer than it may."""
    done = threading.Event()
    threading.Thread(target=_end_late, args=(meeting, name, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _end_late(meeting: Meeting, name: str, done: threading.Event) -> None:
    if done.wait(CONTACT_S):
        return
    try:
        behind = named(meeting.missing(_TOPIC))
    except (PeerError, dist.DistError):
        behind = "rank 0, which does not answer"
    if done.is_set():
        return
    _log.error(
        "LaunchError: %s: the ranks did not reach each other within %.0f s; not through: %s; see whether these hosts "
        "hang, whether a firewall is between them, and name their network with NCCL_SOCKET_IFNAME "
        "(GPU) or GLOO_SOCKET_IFNAME",
        name,
        CONTACT_S,
        behind,
    )
    logging.shutdown()
    os._exit(1)


@contextmanager
def _nccl_log(use_gpu: bool) -> Iterator[Path | None]:
    """Let NCCL write down how it connects; where the user has asked for its log, that stays the user's."""
    if not use_gpu or "NCCL_DEBUG" in os.environ:
        yield None
        return
    file, path = tempfile.mkstemp(prefix="nccl-", suffix=".log")
    os.close(file)
    asked = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET,P2P,SHM", "NCCL_DEBUG_FILE": path}
    before = {key: os.environ.get(key) for key in asked}
    os.environ.update(asked)
    try:
        yield Path(path)
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
        Path(path).unlink()


def uses_sockets(log: Path | None) -> bool:
    """Whether NCCL's log says that ranks talk through sockets; `Using network Socket` alone is what it would take."""
    return log is not None and bool(_SOCKETS.search(log.read_text(encoding="utf-8", errors="replace")))


def _disconnect() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if dist.is_initialized():
        dist.destroy_process_group()

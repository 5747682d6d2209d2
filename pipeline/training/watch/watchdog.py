"""Ends a job that hangs, within a bounded time, and says which rank is at fault; names ranks that slow it down."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from pipeline.training.ranks.host import host_name
from pipeline.training.watch.meeting import Store, meet
from pipeline.training.watch.peers import Peers
from pipeline.training.watch.pulse import Place, Pulse, Stage
from pipeline.training.watch.stragglers import StragglerReport
from pipeline.training.watch.verdict import Verdict

_log = logging.getLogger(__name__)
_RESERVES_S = (10.0, 15.0)  # of the timeout, for noticing and ending: a quarter within these bounds
_INTERVAL_S = 1.0
_LONGEST_GAP = 5  # intervals; a longer one means that this process itself was stopped


class AwakeClock:
    """Seconds that this process was awake: one that was stopped does not take the others for silent afterwards.

    Args:
        longest_gap_s: counted between two readings at most.
    """

    def __init__(self, longest_gap_s: float) -> None:
        self._longest_gap_s = longest_gap_s
        self._read_s = time.monotonic()
        self._counted_s = 0.0

    def __call__(self) -> float:
        """Return the time now."""
        now = time.monotonic()
        self._counted_s += min(now - self._read_s, self._longest_gap_s)
        self._read_s = now
        return self._counted_s


class Watchdog:
    """A thread beside training that tells the other ranks how this one is, and ends the process when the job hangs.

    Use it as a context: a rank that leaves it takes leave of the others.

    Args:
        timeout_s: the whole job is over so long after a rank came to a standstill; None switches the watchdog off.
        rank: global rank.
        end: ends the process; called in the watchdog's thread.
        interval_s: seconds between two pulses.
        reserve_s: part of the timeout that is left for noticing and ending; None: a quarter, 10 to 15 s.
    """

    def __init__(
        self,
        timeout_s: float | None,
        rank: int,
        end: Callable[[Verdict, bool], None],
        interval_s: float = _INTERVAL_S,
        reserve_s: float | None = None,
    ) -> None:
        self._allowance_s: float | None = None
        if timeout_s is not None:
            least, most = _RESERVES_S
            usual = min(most, max(least, timeout_s / 4))
            self._allowance_s = timeout_s - (usual if reserve_s is None else reserve_s)
        self._rank = rank
        self._end = end
        self._interval_s = interval_s
        self._clock = AwakeClock(_LONGEST_GAP * interval_s)
        self._host = host_name()
        self._here = Place(0, 0, Stage.SET_UP, 0, "set-up", is_bounded=False)
        self._here_since: tuple[Place, float] = (self._here, 0.0)
        self._medians_ms: tuple[float, float] | None = None
        self._stragglers = StragglerReport()
        self._peers: Peers | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(has_failed=kind is not None and not issubclass(kind, SystemExit))

    @property
    def is_on(self) -> bool:
        """Whether it watches."""
        return self._allowance_s is not None

    def start(self) -> None:
        """Begin, once the ranks of the run are connected; every rank calls it. A second call changes nothing."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.watch(_get_default_store(), os.environ["MASTER_ADDR"])
        else:
            self.watch(None, "")

    def watch(self, store: Store | None, first_address: str) -> None:
        """Begin.

        Args:
            store: where the ranks of the run find each other; None: there is one process.
            first_address: host name or address of rank 0.
        """
        if self._allowance_s is None or self._thread is not None:
            return
        self._peers = (
            Peers(self._allowance_s, self._clock)
            if store is None
            else meet(self._rank, store, first_address, self._allowance_s, self._clock)
        )
        self._thread = threading.Thread(target=self._run, args=(self._peers,), name="watchdog", daemon=True)
        self._thread.start()

    def stop(self, has_failed: bool = False) -> None:
        """End the watch and take leave of the other ranks.

        Args:
            has_failed: this rank ends with an error; the others, who may wait for it, end soon after.
        """
        if self._thread is not None and not self._is_over.is_set():
            self._is_over.set()
            assert self._peers is not None
            self._peers.wake()
            self._thread.join()
            self._peers.leave(has_failed)

    def at(self, place: Place) -> None:
        """Note where training is; its time counts from here. Costs a few microseconds."""
        self._here = place

    @contextmanager
    def unbounded(self, words: str) -> Iterator[None]:
        """Note work that may take as long as it takes; that this process is alive is watched all the same.

        Args:
            words: what is done, for messages.
        """
        former = self._here
        self._here = replace(former, words=words, is_bounded=False)
        try:
            yield
        finally:
            self._here = replace(former)

    def note_share(self, medians_ms: tuple[float, float] | None) -> None:
        """Take what `OwnShare` has measured."""
        self._medians_ms = medians_ms

    def _run(self, peers: Peers) -> None:
        while not self._is_over.is_set():
            pulse = self._pulse()
            peers.say(pulse)
            verdict = peers.verdict(pulse)
            if verdict is not None and not self._is_over.is_set():
                peers.tell(verdict)
                self._end(verdict, self._speaks(verdict))
                return
            for line in self._stragglers.lines([pulse, *peers.pulses()]):
                _log.warning("%s", line)
            peers.listen(self._interval_s)

    def _pulse(self) -> Pulse:
        here, now = self._here, self._clock()
        if here is not self._here_since[0]:
            self._here_since = (here, now)
        share_ms, wait_ms = self._medians_ms or (None, None)
        return Pulse(self._rank, self._host, here, now - self._here_since[1], share_ms, wait_ms)

    def _speaks(self, verdict: Verdict) -> bool:
        """Whether this rank tells the user: the first one, or where it is at fault one on each node and rank 1."""
        if self._rank == 0 or 0 not in verdict.culprits:
            return self._rank == 0
        return self._rank == 1 or os.environ.get("LOCAL_RANK") == "0"

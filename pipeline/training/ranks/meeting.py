"""Where the ranks of a run meet before they train: a small store that all of them read and write."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from pipeline.errors import LaunchError, PeerError
from pipeline.training.ranks.reachable import wait_for_listener
from pipeline.training.ranks.verdict import Verdict

_POLL_S = 0.05  # signals are honoured between two looks
_ANSWER_S = 10.0  # for a store that is there
_READ_S = 5.0  # for ranks to read why the run ends, before the store of rank 0 ends with it
_LEAVE_S = 120.0  # ranks that have died never come
_VERDICT_S = 30.0  # by how much another rank may have come before rank 0


class Meeting:
    """A store that all ranks of a run are connected to.

    Args:
        store: the connection of this process.
        rank: of this process.
        world_size: ranks in all.
        address: of the store, for messages.
        prefix: of every key.
    """

    def __init__(self, store: dist.TCPStore, rank: int, world_size: int, address: str, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self.rank, self.world_size, self.address = rank, world_size, address

    @classmethod
    def open(
        cls,
        address: str,
        port: int,
        rank: int,
        world_size: int,
        *,
        served: bool,
        prefix: str,
        within_s: float,
    ) -> "Meeting":
        """Connect to the store; rank 0 opens it, unless the launcher has.

        Args:
            address: host of the store.
            port: of the store.
            rank: of this process.
            world_size: ranks in all.
            served: whether the launcher has opened the store.
            prefix: keeps this run's keys apart in the launcher's store.
            within_s: how long to wait for rank 0.

        Raises:
            PeerError: rank 0 is not there, or the port is taken.
            LaunchError: two processes have this rank.
        """
        place = f"{address}:{port}"
        is_server = rank == 0 and not served
        try:
            if not is_server:
                wait_for_listener(address, port, within_s)
            store = dist.TCPStore(
                address,
                port,
                world_size,
                is_server,
                timeout=timedelta(seconds=_ANSWER_S),
                wait_for_workers=False,
                multi_tenant=True,
            )
        except dist.DistNetworkError as error:
            reason = str(error).splitlines()[0]
            raise PeerError(
                f"rank {rank} cannot {'open' if is_server else 'reach'} MASTER_ADDR:MASTER_PORT={place} ({reason}); "
                "choose a free port, and the host of rank 0"
            ) from None
        meeting = cls(store, rank, world_size, place, prefix)
        if store.add(meeting._key(f"processes/{rank}"), 1) > 1:
            raise LaunchError(
                f"two processes have RANK={rank} at {place}: each rank is started once; another run may use the same "
                "MASTER_PORT"
            )
        return meeting

    def tell(self, key: str, value: Any) -> None:
        """Leave a plain value for the other ranks."""
        self._do(lambda: self._store.set(self._key(key), json.dumps(value)))

    def tell_last(self, key: str, value: Any) -> None:
        """Leave a plain value for the other ranks, and give them the time to read it before this process ends."""
        self.tell(key, value)
        self._wait_for_count(f"{key}/read", self.world_size - 1, _READ_S)

    def ask(self, key: str, within_s: float | None) -> Any:
        """Return what a rank has told; None if it does not come in time.

        Args:
            key: of the value.
            within_s: None waits as long as the store lives.

        Raises:
            PeerError: the store is gone, and rank 0 with it.
        """
        deadline = None if within_s is None else time.monotonic() + within_s
        while not self._do(lambda: self._store.check([self._key(key)])):
            if deadline is not None and time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)
        text = self._do(lambda: self._store.get(self._key(key)))
        self._do(lambda: self._store.add(self._key(f"{key}/read"), 1))
        return json.loads(text)

    def council(
        self, topic: str, own: Any, within_s: float, judge: Callable[[dict[int, Any]], Verdict]
    ) -> Verdict:
        """Let rank 0 judge what all ranks report; every rank calls it at the same place and gets the verdict.

        Args:
            topic: name of this council.
            own: report of this rank, as plain values.
            within_s: how long rank 0 waits for the others.
            judge: from rank -> report of those that came to the verdict.

        Raises:
            PeerError: rank 0 gives no verdict.
        """
        self.tell(f"{topic}/{self.rank}", {"report": own})
        if self.rank == 0:
            reports = self._gather(topic, within_s)
            verdict = judge(reports)
            self.tell(f"{topic}/verdict", asdict(verdict))
            if verdict.problems:
                self._wait_for_count(f"{topic}/verdict/read", len(reports) - 1, _READ_S)
            return verdict
        told = self.ask(f"{topic}/verdict", within_s + _VERDICT_S)
        if told is None:
            raise PeerError(f"rank 0 at {self.address} has given no answer within {within_s:.0f} s")
        told["problems"] = [(rank, text) for rank, text in told["problems"]]
        return Verdict(**told)

    def missing(self, topic: str) -> list[int]:
        """Return the ranks that have not reported to a council; from another thread, over a connection of its own.

        Raises:
            PeerError: the store does not answer.
        """
        host, _, port = self.address.rpartition(":")
        wait_for_listener(host, int(port), _READ_S)
        store = dist.TCPStore(host, int(port), None, False, timeout=timedelta(seconds=_READ_S))
        keys = {rank: self._key(f"{topic}/{rank}") for rank in range(self.world_size)}
        return [rank for rank, key in keys.items() if not store.check([key])]

    def connect(self, device: torch.device, timeout: timedelta) -> None:
        """Form the process group that training uses: NCCL on a GPU, gloo on the CPU.

        Args:
            device: of this rank.
            timeout: of a collective.
        """
        self._store.set_timeout(timeout)  # groups made later wait in it for ranks that come late
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore(self._key("group"), self._store),
            rank=self.rank,
            world_size=self.world_size,
            timeout=timeout,
            device_id=device if device.type == "cuda" else None,
        )

    def leave_together(self) -> None:
        """Wait until every rank has saved: a launcher that sees one rank end ends the others soon after."""
        try:
            self._do(lambda: self._store.add(self._key("leaving"), 1))
            self._wait_for_count("leaving", self.world_size, _LEAVE_S)
        except PeerError:  # the store has ended with rank 0, which leaves as well
            return

    def _gather(self, topic: str, within_s: float) -> dict[int, Any]:
        """Return rank -> report of those that come in time."""
        deadline, found = time.monotonic() + within_s, {}
        for rank in range(self.world_size):
            report = self.ask(f"{topic}/{rank}", max(0.0, deadline - time.monotonic()))
            if report is not None:
                found[rank] = report["report"]
        return found

    def _wait_for_count(self, key: str, count: int, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self._do(lambda: self._store.add(self._key(key), 0)) < count and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}"

    def _do(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except dist.DistError as error:
            reason = str(error).splitlines()[0]
            raise PeerError(f"rank 0 at {self.address} is gone, see its own message ({reason})") from None

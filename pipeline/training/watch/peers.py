"""How the watchdogs of the ranks hear of each other: every rank has one connection to rank 0, which judges.

A connection of its own, past the collectives: a hung collective cannot hold it up. A process that dies closes it at
once, one that is stopped keeps it and falls silent, and the kernel notices a host that is gone.
"""

import selectors
import socket
from collections.abc import Callable
from typing import Any

from pipeline.training.watch.line import Line
from pipeline.training.watch.pulse import Place, Pulse, Stage
from pipeline.training.watch.verdict import Sighting, Verdict, judge

_UNHEARD = Place(0, 0, Stage.SET_UP, 0, "set-up", is_bounded=False)


class Peers:
    """The other ranks, as one rank sees them: none here, for one process or one that has no way to the others.

    Args:
        allowance_s: silence and standing still for so long are too long.
        clock: seconds; read by the thread that listens.
    """

    def __init__(self, allowance_s: float, clock: Callable[[], float]) -> None:
        self._allowance_s = allowance_s
        self._clock = clock
        self._bell, self._cord = socket.socketpair()
        self._selector = selectors.DefaultSelector()  # select() itself ends at 1024 descriptors
        self._selector.register(self._bell, selectors.EVENT_READ)

    def say(self, pulse: Pulse) -> None:
        """Tell the others of this rank."""

    def verdict(self, pulse: Pulse) -> Verdict | None:
        """Return why the job is to end, if it is; `pulse` is this rank's own."""
        return judge([Sighting(pulse)], self._allowance_s)

    def pulses(self) -> list[Pulse]:
        """Return the newest pulses of the other ranks; only the first rank knows them."""
        return []

    def listen(self, seconds: float) -> None:
        """Take what the others say for so long, or until `wake`."""
        end, is_over = self._clock() + seconds, False
        while not is_over:
            ready = [key.fileobj for key, _ in self._selector.select(max(0.0, end - self._clock()))]
            is_over = self._bell in ready or self._clock() >= end
            for source in ready:
                if source is not self._bell:
                    self._receive(source)

    def _receive(self, source: object) -> None:
        """Take what has come from a registered source."""

    def wake(self) -> None:
        """End a `listen` of another thread."""
        self._cord.send(b"!")

    def tell(self, verdict: Verdict) -> None:
        """Pass a verdict on to the ranks that would not come to it themselves."""

    def leave(self, has_failed: bool) -> None:
        """Take leave, so that the others do not take this rank for dead."""
        self._selector.close()
        self._bell.close()
        self._cord.close()


class _Other:
    """What rank 0 knows of another rank, and any other rank of rank 0."""

    def __init__(self, line: Line, rank: int, host: str, now: float) -> None:
        self.line = line
        self.pulse = Pulse(rank, host, _UNHEARD, 0.0)
        self.has_left = False
        self._heard = now
        self._gone: float | None = None
        self._has_failed = False
        self.verdict: Verdict | None = None

    def take(self, messages: list[dict[str, Any]], now: float) -> None:
        """Take what has come."""
        for message in messages:
            self._heard = now
            if "pulse" in message:
                self.pulse = Pulse.of(message["pulse"])
            if "leaves" in message:
                self._has_failed = bool(message["leaves"])
                self.has_left = not self._has_failed
                self._gone = now if self._has_failed else None
            if "verdict" in message:
                self.verdict = Verdict(**message["verdict"])
        if not self.line.is_open and self._gone is None:
            self._gone = now

    def sighting(self, now: float) -> Sighting:
        """Return what is known at this time."""
        gone_s = None if self._gone is None else now - self._gone
        return Sighting(self.pulse, now - self._heard, gone_s, self._has_failed)


class Hub(Peers):
    """Rank 0: hears all, judges, and tells all.

    Args:
        allowance_s: silence and standing still for so long are too long.
        clock: seconds.
        token: what a rank of this run says first.
    """

    def __init__(self, allowance_s: float, clock: Callable[[], float], token: str) -> None:
        super().__init__(allowance_s, clock)
        self._token = token
        self._listener = _listen_everywhere()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._others: dict[Line, _Other] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def say(self, pulse: Pulse) -> None:
        """Show all ranks that this one lives."""
        for other in self._others.values():
            other.line.send({"pulse": pulse.plain()})

    def verdict(self, pulse: Pulse) -> Verdict | None:
        """Judge all ranks."""
        now = self._clock()
        others = [other.sighting(now) for other in self._others.values() if not other.has_left]
        return judge(sorted([Sighting(pulse), *others], key=lambda seen: seen.pulse.rank), self._allowance_s)

    def pulses(self) -> list[Pulse]:
        """Return the newest pulses of the other ranks."""
        return [other.pulse for other in self._others.values() if not other.has_left]

    def tell(self, verdict: Verdict) -> None:
        """Tell all ranks."""
        plain = {"culprits": verdict.culprits, "message": verdict.message, "is_failure": verdict.is_failure}
        for other in self._others.values():
            other.line.send({"verdict": plain})

    def leave(self, has_failed: bool) -> None:
        """Take leave of all."""
        for other in self._others.values():
            other.line.send({"leaves": has_failed})
            other.line.close()
        self._listener.close()
        super().leave(has_failed)

    def _receive(self, source: object) -> None:
        if source is self._listener:
            line = Line(self._listener.accept()[0])
            self._selector.register(line, selectors.EVENT_READ)
            return
        assert isinstance(source, Line)
        messages = source.read()
        if source not in self._others and messages:
            self._admit(source, messages.pop(0))
        if source in self._others:
            self._others[source].take(messages, self._clock())
        if not source.is_open:
            self._selector.unregister(source)
            source.close()

    def _admit(self, line: Line, first: dict[str, Any]) -> None:
        """Take a connection for a rank of this run if its first message holds the token."""
        if first.keys() != {"token", "rank", "host"} or first["token"] != self._token:
            line.is_open = False
            return
        self._others[line] = _Other(line, int(first["rank"]), str(first["host"]), self._clock())


class Link(Peers):
    """Any other rank: says how it is, and hears what rank 0 has judged, or that rank 0 is silent.

    Args:
        allowance_s: silence for so long is too long.
        clock: seconds.
        line: connected to rank 0.
        first_host: name of rank 0's machine.
    """

    def __init__(self, allowance_s: float, clock: Callable[[], float], line: Line, first_host: str) -> None:
        super().__init__(allowance_s, clock)
        self._selector.register(line, selectors.EVENT_READ)
        self._first = _Other(line, 0, first_host, clock())

    def introduce(self, token: str, rank: int, host: str) -> None:
        """Say the first message."""
        self._first.line.send({"token": token, "rank": rank, "host": host})

    def say(self, pulse: Pulse) -> None:
        """Tell rank 0."""
        self._first.line.send({"pulse": pulse.plain()})

    def verdict(self, pulse: Pulse) -> Verdict | None:
        """Return rank 0's verdict, or one over rank 0; after it has left, one over this rank."""
        if self._first.verdict is not None:
            return self._first.verdict
        if self._first.has_left:
            return judge([Sighting(pulse)], self._allowance_s)
        seen = self._first.sighting(self._clock())
        is_lost = seen.gone_s is not None or seen.silent_s >= self._allowance_s
        return judge([seen, Sighting(pulse)], self._allowance_s) if is_lost else None

    def leave(self, has_failed: bool) -> None:
        """Take leave of rank 0."""
        self._first.line.send({"leaves": has_failed})
        self._first.line.close()
        super().leave(has_failed)

    def _receive(self, source: object) -> None:
        self._first.take(self._first.line.read(), self._clock())
        if self._first.verdict is not None:
            self.wake()  # the first rank's end is about to raise errors in the main thread
        if not self._first.line.is_open:
            self._selector.unregister(self._first.line)
            self._first.line.close()


def _listen_everywhere() -> socket.socket:
    try:
        listener = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    except (OSError, ValueError):  # no IPv6 on this machine
        listener = socket.create_server(("", 0), backlog=1024)
    listener.setblocking(False)
    return listener

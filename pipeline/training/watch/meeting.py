"""How the watchdogs of a run find each other: rank 0 puts its port into the store of the process group."""

import json
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from pipeline.training.ranks.host import host_name
from pipeline.training.watch.line import Line
from pipeline.training.watch.peers import Hub, Link, Peers

_log = logging.getLogger(__name__)
_KEY = "watchdog"
_PATIENCE_S = 60.0


class Store(Protocol):
    """What is used of torch's stores."""

    def set(self, key: str, value: str) -> None:
        """Store a value."""

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        """Wait until the keys are there."""

    def get(self, key: str) -> bytes:
        """Return a value."""


def meet(
    rank: int, store: Store, first_address: str, allowance_s: float, clock: Callable[[], float]
) -> Peers:
    """Connect this rank's watchdog to the others; every rank calls it.

    Args:
        rank: global rank.
        store: of the process group.
        first_address: host name or address of rank 0.
        allowance_s: silence and standing still for so long are too long.
        clock: seconds.
    """
    host = host_name()
    if rank == 0:
        token = secrets.token_hex(16)  # a port is open to anyone who can reach it
        hub = Hub(allowance_s, clock, token)
        store.set(_KEY, json.dumps({"port": hub.port, "token": token, "host": host}))
        return hub
    try:
        store.wait([_KEY], timedelta(seconds=_PATIENCE_S))
        first = json.loads(store.get(_KEY))
        line = Line(_connect((first_address, first["host"]), first["port"]))
    except (OSError, RuntimeError) as error:  # torch's store raises RuntimeError
        _log.warning(
            "the watchdog of %s cannot reach rank 0 at %s (%s): it watches its own rank only",
            host,
            first_address,
            str(error).splitlines()[0],
        )
        return Peers(allowance_s, clock)
    link = Link(allowance_s, clock, line, first["host"])
    link.introduce(first["token"], rank, host)
    return link


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to the first address that answers: a launcher's address need not be the host of rank 0.

    Raises:
        OSError: none answers.
    """
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, port), timeout=_PATIENCE_S / len(addresses))
        except OSError as error:
            _log.debug("no watchdog at %s:%d (%s)", address, port, error)
    return socket.create_connection((addresses[-1], port), timeout=_PATIENCE_S / len(addresses))

"""Waiting for a listener on another host, without torch's pages of warnings. Needs no torch."""

import socket
import time

from pipeline.errors import PeerError
from pipeline.training.ranks.host import host_name

_TRY_S = 5.0
_POLL_S = 0.2


def wait_for_listener(address: str, port: int, within_s: float) -> None:
    """Return when something listens at an address.

    Args:
        address: host name or number.
        port: TCP port.
        within_s: how long to wait.

    Raises:
        PeerError: nothing does.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection((address, port), timeout=_TRY_S).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise PeerError(
                    f"rank 0 does not answer at MASTER_ADDR:MASTER_PORT={address}:{port} within {within_s:.0f} s "
                    f"({error}); see whether it has started, and whether its host can be reached from "
                    f"{host_name()}"
                ) from None
            time.sleep(_POLL_S)
        else:
            return

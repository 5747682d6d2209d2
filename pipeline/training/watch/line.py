"""JSON lines between two watchdogs, over a socket that never blocks. Imports no torch."""

import json
import socket
from typing import Any

_HOST_LOST_S = (
    20  # without an answer from the other host's kernel; a stopped process does not keep its kernel silent
)
_LONGEST = 1 << 16
_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _HOST_LOST_S // 2),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _HOST_LOST_S // 4),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 1000 * _HOST_LOST_S),
)


class Line:
    """One end of a connection.

    Args:
        connection: a connected socket.

    Attributes:
        is_open: whether more can come.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._rest = b""
        self.is_open = True
        connection.setblocking(False)
        for level, name, value in _OPTIONS:
            if hasattr(socket, name):  # not all are on every system
                connection.setsockopt(level, getattr(socket, name), value)

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; dropped where the other end has long not read."""
        if not self.is_open:
            return
        try:
            self._socket.send(json.dumps(message).encode() + b"\n")
        except BlockingIOError:
            return
        except OSError:
            self.is_open = False

    def read(self) -> list[dict[str, Any]]:
        """Return the messages that have come."""
        try:
            received = self._socket.recv(_LONGEST)
        except BlockingIOError:
            return []
        except OSError:
            received = b""
        self.is_open = bool(received)
        *lines, self._rest = (self._rest + received).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            messages = [None]
        if len(self._rest) > _LONGEST or not all(isinstance(message, dict) for message in messages):
            self.is_open = False  # no watchdog speaks like that
            return []
        return messages

    def close(self) -> None:
        """Close it."""
        self.is_open = False
        self._socket.close()

"""Keeps libmpg123's complaints off the user's terminal.

The library inside libsndfile writes to file descriptor 2 whenever a seek lands between MP3 frames that share
bits, which is harmless (`audio_io` discards what is decoded there) and fills logs with thousands of lines. It
offers no switch.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_STDERR = 2
_NOISE = (
    b"[src/libmpg123/",
    b"Warning: Xing stream size",
    b"Note: Illegal Audio-MPEG-Header",
    b"Note: Trying to resync",
    b"Note: Skipped ",
    b"Note: Hit end of",
)

_lock = threading.Lock()
_users = 0
_captured: tuple[IO[bytes], int] | None = None


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """Holds back what is written to stderr, and afterwards passes on all but the decoder's own lines.

    The descriptor belongs to the whole process: lines of other threads arrive late (by one read), none is
    lost. Threads may overlap; the last to leave restores stderr. Without an open stderr nothing happens.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _captured
    with _lock:
        _users += 1
        if _users > 1:
            return
        try:
            saved = os.dup(_STDERR)
        except OSError:  # closed, as in some daemons: nothing to keep clean
            return
        capture = tempfile.TemporaryFile()
        os.dup2(capture.fileno(), _STDERR)
        _captured = (capture, saved)


def _leave() -> None:
    global _users, _captured
    with _lock:
        _users -= 1
        if _users > 0 or _captured is None:
            return
        capture, saved = _captured
        _captured = None
        os.dup2(saved, _STDERR)
        os.close(saved)
        with capture:
            capture.seek(0)
            for line in capture:
                if not line.startswith(_NOISE):
                    os.write(_STDERR, line)

"""The turn of a launch: while it decides and submits, other launches into the same sweep folder wait."""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LaunchError
from pipeline.launch.lock import WITHOUT_LOCKS

_log = logging.getLogger(__name__)
_LOCK = ".sweep.lock"
_PATIENCE_S = 120.0  # submitting a large sweep takes a while
_POLL_S = 0.2


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Hold a sweep folder, which is made where there is none; the system releases it when the process is gone.

    Raises:
        LaunchError: another launch holds it for long, or it cannot be made or written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        stream = (home / _LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"{home}: cannot be written ({error.strerror}); choose a folder of yours") from None
    with stream:
        _acquire(stream.fileno(), home)
        yield


def _acquire(descriptor: int, home: Path) -> None:
    deadline, said = time.monotonic() + _PATIENCE_S, False
    while not _taken(descriptor, home):
        if not said:
            _log.info("%s: another launch submits into this folder; waiting for it", home)
        said = True
        if time.monotonic() > deadline:
            raise LaunchError(
                f"{home}: another launch has held this folder for {_PATIENCE_S:g} s; try again later"
            )
        time.sleep(_POLL_S)


def _taken(descriptor: int, home: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise LaunchError(f"{home}: cannot be locked ({error.strerror}); choose another folder") from None
        _log.warning("%s: this file system has no locks; launch once at a time", home)
    return True

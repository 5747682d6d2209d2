"""Uninterrupted runs on this machine, each trained once for all tests of a session."""

import fcntl
import hashlib
import time
from pathlib import Path

from tests.integration.chaos.session import Preloaded, plain_environment

_PATIENCE_S = 300.0


class References:
    """Trains references as they are asked for.

    Args:
        folder: of all of them; other processes of the test session use it too.
        cache: with the audio.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._cache = folder, cache
        self._server: Preloaded | None = None

    def of(self, *arguments: str) -> Path:
        """Return the directory of the run with these arguments, trained now if it is not there yet."""
        place = self._folder / hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / "done").exists():
                self._train(place, arguments)
                (place / "done").touch()
        return place / "run"

    def _train(self, place: Path, arguments: tuple[str, ...]) -> None:
        self._server = self._server or Preloaded()
        environment, output = plain_environment(self._cache, place), place / "output.log"
        run = self._server.start([*arguments, f"run.dir={place / 'run'}"], environment, output)
        deadline = time.monotonic() + _PATIENCE_S
        while (code := run.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert code == 0, (code, output.read_text(encoding="utf-8")[-3000:])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

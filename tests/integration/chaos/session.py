"""One process tree that trains: started from scratch or as a fork, looked at, waited for."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.integration.chaos import processes
from tests.integration.chaos.observer import chaos_observer
from tests.integration.chaos.observer.chaos_observer import Observation
from tests.integration.runs import ROOT

OBSERVER = Path(chaos_observer.__file__).parent


def environment(cache: Path, runs: Path, marker: str, stages: Path) -> dict[str, str]:
    """Return the environment of an observed run."""
    paths = [str(OBSERVER), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return plain_environment(cache, runs) | {
        processes.MARKER_VARIABLE: marker,
        chaos_observer.FOLDER_VARIABLE: str(stages),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def plain_environment(cache: Path, runs: Path) -> dict[str, str]:
    """Return the environment of a run that nobody looks at."""
    changed = {"EULER_RUNS": str(runs), "EULER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in os.environ.items() if name != "EULER_DATA"}
    return kept | changed


class Root(Protocol):
    """The process that a user would have started."""

    process: int

    def poll(self) -> int | None:
        """Return the exit code, None while it runs; minus the number of the signal that killed it."""


class Preloaded:
    """The server that forks runs, one at a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.preloaded"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._server.stdin is not None and self._server.stdout is not None
        self._requests, self._answers = self._server.stdin, self._server.stdout

    def start(self, arguments: Sequence[str], environment: dict[str, str], output: Path) -> "Forked":
        """Fork a run."""
        request = {
            "arguments": list(arguments),
            "environment": environment,
            "directory": str(ROOT),
            "output": str(output),
            "own_session": True,
        }
        self._requests.write(json.dumps(request).encode() + b"\n")
        return Forked(int(self._answers.readline()), self)

    def answer(self) -> int | None:
        """Return the exit code of the run that was forked last, None while it runs."""
        ready, _, _ = select.select([self._answers], [], [], 0)
        return int(self._answers.readline()) if ready else None

    def close(self) -> None:
        """End the server."""
        self._requests.close()
        try:
            self._server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()


class Forked:
    """A run that the server forked."""

    def __init__(self, process: int, server: Preloaded) -> None:
        self.process = process
        self._server = server
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self._code is None:
            self._code = self._server.answer()
        return self._code


class Scratch:
    """A run as a user starts it."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], output: Path) -> None:
        with output.open("wb") as file:
            self._run = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.process = self._run.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._run.poll()


class Session:
    """One start of a run, from its first process to its last.

    Args:
        root: the process that was started.
        stages: where its processes say what they do.
        output: what it prints.
        marker: what its processes are known by.
        is_parallel: whether it consists of ranks that a supervisor starts.
    """

    def __init__(self, root: Root, stages: Path, output: Path, marker: str, is_parallel: bool) -> None:
        self.root, self.marker = root, marker
        self._stages, self._output, self._is_parallel = stages, output, is_parallel
        self._files: dict[int, tuple[int, Path]] = {}  # rank -> (process, its file)

    @property
    def text(self) -> str:
        """All that was printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def process_of(self, rank: int) -> int | None:
        """Return the process of a rank, None while it is not there; rank 0 of a single process is the root."""
        if not self._is_parallel:
            return self.root.process
        self._find_ranks()
        return self._files[rank][0] if rank in self._files else None

    def observe(self, rank: int) -> Observation | None:
        """Return what a rank does, or did when it ended; None before it says anything."""
        if not self._is_parallel:
            return chaos_observer.read(self._stages / str(self.root.process))
        self._find_ranks()
        return chaos_observer.read(self._files[rank][1]) if rank in self._files else None

    def _find_ranks(self) -> None:
        if len(self._files) > 1:
            return
        for file in self._stages.iterdir():
            seen = chaos_observer.read(file)
            if seen is not None and seen.rank >= 0:
                self._files[seen.rank] = (int(file.name), file)

    def members(self) -> list[processes.Member]:
        """Return its living processes."""
        return processes.members(self.marker, self.root.process)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end of the root and return its exit code; None when it did not end in time."""
        deadline = time.monotonic() + timeout_s
        while (code := self.root.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return code

    def kill_all(self) -> None:
        """Kill every process, as often as one is left."""
        while left := self.members():
            for member in left:
                processes.send(member.process, signal.SIGKILL)
            time.sleep(0.01)

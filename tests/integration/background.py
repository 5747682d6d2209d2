"""Runs of `train.py` that are watched and signalled while they go on."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.runs import ROOT, Finished

PATIENCE_S = 240


def environment(runs: Path, cache: Path) -> dict[str, str]:
    variables = os.environ | {"EULER_RUNS": str(runs), "EULER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    variables.pop("EULER_DATA", None)
    return variables


class Background:
    """One run, forked from the preloaded process, which serves one run at a time."""

    def __init__(self, server: subprocess.Popen[str], folder: Path, cache: Path, *arguments: str) -> None:
        self.runs = folder / "runs"
        self._server, self._output = server, folder / f"output-{time.monotonic_ns()}.log"
        request = {
            "arguments": arguments,
            "environment": environment(self.runs, cache),
            "directory": str(ROOT),
            "output": str(self._output),
            "own_session": True,
        }
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def wait_for(self, what: Callable[["Background"], bool]) -> None:
        """Wait until the run has come so far."""
        deadline = time.monotonic() + PATIENCE_S
        while not what(self):
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def send(self, name: str) -> None:
        os.kill(self.pid, signal.Signals[name])

    def end(self) -> Finished:
        """Wait for the end."""
        assert self._server.stdout is not None
        code = int(self._server.stdout.readline())
        return Finished(code, self.output, self.runs)

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8") if self._output.exists() else ""


def says(text: str) -> Callable[[Background], bool]:
    return lambda run: text in run.output


def has_trained(steps: int) -> Callable[[Background], bool]:
    """Whether metrics.csv holds the rows of so many steps."""
    return lambda run: any(
        len(file.read_text(encoding="utf-8").splitlines()) > steps for file in run.runs.rglob("metrics.csv")
    )

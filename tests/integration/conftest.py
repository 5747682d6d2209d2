"""Fixtures for real runs of `train.py`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.runs import ROOT, Finished

TIMEOUT_S = 240


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all test processes, so that the default corpus is generated once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return shared / "cache"


@pytest.fixture(scope="session")
def preloaded() -> Iterator[subprocess.Popen[str]]:
    """The process that forks runs."""
    command = [sys.executable, "-m", "tests.integration.preloaded"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield server
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=30)


def _environment(runs: Path, cache: Path) -> dict[str, str]:
    environment = os.environ | {"EULER_RUNS": str(runs), "EULER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    environment.pop("EULER_DATA", None)
    return environment


@pytest.fixture
def train(tmp_path: Path, cache_dir: Path, preloaded: subprocess.Popen[str]) -> Callable[..., Finished]:
    """Run `train.py ARGUMENTS` in a fork of the preloaded process and return what it did."""

    def run(*arguments: str, name: str = "runs", cwd: Path = ROOT) -> Finished:
        output, runs = tmp_path / f"{name}.log", tmp_path / name
        request = {
            "arguments": arguments,
            "environment": _environment(runs, cache_dir),
            "directory": str(cwd),
            "output": str(output),
        }
        assert preloaded.stdin is not None and preloaded.stdout is not None
        preloaded.stdin.write(json.dumps(request) + "\n")
        preloaded.stdin.flush()
        code = int(preloaded.stdout.readline())
        return Finished(code, output.read_text(encoding="utf-8"), runs)

    return run


@pytest.fixture
def train_from_scratch(tmp_path: Path, cache_dir: Path) -> Callable[..., Finished]:
    """Run `python train.py ARGUMENTS` as a user would, in a process of its own."""

    def run(*arguments: str, name: str = "scratch", cwd: Path = ROOT) -> Finished:
        runs = tmp_path / name
        result = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=cwd,
            env=_environment(runs, cache_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Finished(result.returncode, result.stdout, runs)

    return run

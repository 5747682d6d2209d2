"""Fixtures for real runs of `train.py`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.runs import ROOT, Finished


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all test processes, so that the default corpus is generated once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return shared / "cache"


@pytest.fixture
def train(tmp_path: Path, cache_dir: Path) -> Callable[..., Finished]:
    """Run `python train.py ARGUMENTS` as a user would and return what it did."""

    def run(*arguments: str, name: str = "runs", cwd: Path = ROOT, timeout_s: float = 240) -> Finished:
        runs = tmp_path / name
        environment = os.environ | {
            "EULER_RUNS": str(runs),
            "EULER_CACHE": str(cache_dir),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("EULER_DATA", None)
        result = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout_s,
        )
        return Finished(result.returncode, result.stdout, runs)

    return run

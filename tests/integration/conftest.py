"""Fixtures for real runs of `train.py`."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from pipeline.launch import reproduce
from tests.integration.background import Background
from tests.integration.runs import ROOT, TINY, Finished

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


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, preloaded, cache_dir):
    """A run of four steps on four files of noise, on one thread."""
    place = tmp_path_factory.mktemp("reproduce")
    (place / "audio").mkdir()
    for number, name in enumerate(("a.wav", "b.wav", "c.wav", "d.wav")):
        noise = np.random.default_rng(number).normal(0, 0.1, 44100)
        soundfile.write(place / "audio" / name, noise, 44100)
    words = ("trainer.trainer.max_steps=4", "data=folder", f"data.root={place / 'audio'}")
    run = Background(preloaded, place, cache_dir, *TINY, *words, f"run.dir={place / 'run'}").end()
    assert run.code == 0, run.output
    return place


@pytest.fixture
def copied(finished_run, tmp_path):
    """Another copy of the run and its audio, to be changed."""
    place = tmp_path / "copied"
    shutil.copytree(finished_run, place)
    return SimpleNamespace(place=place, run=place / "run", audio=place / "audio")


@pytest.fixture
def ask(monkeypatch, capsys, cache_dir):
    """Ask whether a run is the same; gives the exit code and what was said."""
    logger = logging.getLogger("pipeline")
    before = (logger.handlers[:], logger.propagate, logger.level)
    monkeypatch.setenv("EULER_CACHE", str(cache_dir))

    def reproduced(run, *arguments):
        monkeypatch.setattr("sys.argv", ["reproduce", str(run), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            reproduce.main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    yield reproduced
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])

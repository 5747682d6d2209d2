"""Printed commands run as they are printed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.launch.command import module_command, train_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", [ROOT, Path("/")])
@pytest.mark.parametrize("activated", [True, False])
def test_a_printed_command_runs_where_it_is_printed(monkeypatch, folder, activated):
    binaries = [str(Path(sys.executable).parent)] if activated else []
    monkeypatch.setenv("PATH", os.pathsep.join([*binaries, "/usr/bin", "/bin"]))
    monkeypatch.chdir(folder)
    command = train_command("--version", "run.name=a b")
    assert shlex.split(command)[0] == "python" if activated else shlex.split(command)[0] != "python"
    finished = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert finished.returncode == 0 and "Hydra" in finished.stdout, finished
    assert module_command("a.b", "c").endswith("-m a.b c")


def test_a_working_directory_that_is_gone(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert str(ROOT / "train.py") in train_command("run.name=a")
    os.chdir(ROOT)

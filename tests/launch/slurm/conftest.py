"""A machine without SLURM, and one whose SLURM answers as it is told."""

import os
from pathlib import Path

import pytest

from tests.launch.slurm.recorded import Answers


@pytest.fixture
def no_slurm(tmp_path_factory, monkeypatch) -> Path:
    """A PATH with the system's tools and none of SLURM's."""
    folder = tmp_path_factory.mktemp("path")
    for name in ("cat", "tail", "sh", "bash", "git"):
        found = next(
            Path(place) / name
            for place in ("/bin", "/usr/bin", "/usr/local/bin")
            if (Path(place) / name).exists()
        )
        (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def slurm(no_slurm, tmp_path_factory, monkeypatch) -> Answers:
    """A SLURM without jobs."""
    answers = Answers(tmp_path_factory.mktemp("slurm"))
    monkeypatch.setenv("PATH", f"{answers.folder}{os.pathsep}{no_slurm}")
    answers.jobs()
    return answers

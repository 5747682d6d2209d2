"""Runs must lie where the nodes see them, and nothing of this shell may change a job."""

import os
import stat
from pathlib import Path

import pytest

from pipeline.launch.slurm import cluster
from pipeline.launch.slurm.checks import check_shared
from tests.config.command_line import train
from tests.launch.slurm.launches import LAUNCHER

# What the programs of a cluster of two other hosts print.
_PROGRAMS = {
    "sinfo": "echo 'cpu*|infinite|2|4|(null)|16000'",
    "scontrol": "echo 'NodeName=n1 NodeAddr=10.0.0.1 Port=6818'; echo 'NodeName=n2 NodeAddr=10.0.0.2 Port=6818'",
    "squeue": "true",
    "sacct": "true",
    "sbatch": "echo 'sbatch: Job 7 to start at 2026-01-01T00:00:00' >&2",
}


@pytest.fixture
def distant_cluster(tmp_path):
    """Variables of a login node of a cluster whose nodes are other hosts."""
    for name, line in _PROGRAMS.items():
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{tmp_path / 'programs'}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("hydra.sweep.dir=/var/tmp/sweep", ()),
        ("run.dir=/dev/shm/run", ("hydra.launcher.dry_run=true",)),
        ("hydra.sweep.dir=here", ()),
    ],
)
def test_a_folder_of_this_machine_alone_is_refused(place, more, distant_cluster, tmp_path):
    result = train("-m", LAUNCHER, place, *more, home=tmp_path / "home", environment=distant_cluster)
    key, _, folder = place.partition("=")
    assert result.code == 1 and f"{key}=" in result.output and folder in result.output, result.output
    assert "choose a folder on the shared file system" in result.output
    assert result.printed == "" and result.written == ()


def test_a_preview_asks_the_cluster_whether_it_would_take_the_script(distant_cluster, tmp_path):
    arguments = ("-m", LAUNCHER, "hydra.sweep.dir=/srv/sweep", "hydra.launcher.dry_run=true")
    result = train(*arguments, home=tmp_path / "home", environment=distant_cluster)
    assert result.code == 0 and result.printed.startswith("#!/bin/bash\n")
    assert "sbatch --test-only: sbatch: Job 7 to start at" in result.output


@pytest.mark.parametrize("path", ["/tmp/a", "/var/tmp/a/b", "/dev/shm/a"])
def test_folders_of_one_machine(path):
    said = check_shared("run.dir", Path(path))
    assert said is not None and said.startswith(f"run.dir={path}: ")


def test_a_link_does_not_hide_where_a_folder_lies(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    assert check_shared("run.dir", tmp_path / "mine" / "run") is not None


def test_memory_is_known_by_its_file_system():
    places = [
        Path(line.split()[4])
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.partition(" - ")[2].startswith("tmpfs ")
    ]
    outside = [place for place in places if not str(place).startswith(("/tmp", "/var/tmp", "/dev/shm"))]
    assert outside, "every Linux has one"
    for place in outside:
        said = check_shared("run.dir", place / "run")
        assert said is not None and ("memory (tmpfs)" in said or "memory (devtmpfs)" in said)


def test_other_folders_may_be_shared():
    assert check_shared("run.dir", Path("/srv/shared/run")) is None


def test_nothing_of_this_shell_goes_before_the_script(monkeypatch):
    for name in ("SBATCH_TIMELIMIT", "SLURM_CPU_BIND", "SRUN_CPUS_PER_TASK", "SLURM_CONF"):
        monkeypatch.setenv(name, "kept")
    root = str(Path(cluster.__file__).resolve().parents[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, "/own"]))
    seen = cluster.environment()
    assert {name for name in seen if name.startswith(("SBATCH", "SLURM", "SRUN"))} == {"SLURM_CONF"}
    assert seen["PYTHONPATH"] == "/own" and seen["PATH"] == os.environ["PATH"]

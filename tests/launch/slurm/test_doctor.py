"""`make doctor`: what is there, what is missing, what to do."""

import re
import subprocess
import sys

import pytest

from pipeline.launch.slurm import examine_cluster, examine_images, examine_machine
from tests.architecture.source_tree import ROOT

CONFIG = (
    "JobRequeue              = {requeue}\nPreemptMode             = REQUEUE\nPreemptType = preempt/none\n"
)


def doctor(code=0):
    command = [sys.executable, "-m", "pipeline.launch.slurm.doctor"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def lines(part):
    return [(finding.word, finding.text, finding.remedy) for finding in part()]


@pytest.fixture
def places(tmp_path, monkeypatch):
    for name in ("EULER_DATA", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EULER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_machine_without_slurm(places, no_slurm):
    output = doctor()
    assert output.splitlines()[-1] == "training works here"
    assert "note    no SLURM here" in output
    assert re.search(r"packages as pinned in containers/requirements-(cpu|cuda)\.lock", output)
    assert list(places.iterdir()) == []


def test_runs_that_cannot_be_written_stop_everything(places, no_slurm, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", "/proc/euler")
    output = doctor(code=1)
    assert "missing EULER_RUNS=/proc/euler: cannot be written" in output
    assert output.splitlines()[-1].startswith("training cannot work here: EULER_RUNS=/proc/euler")


def test_memory_is_no_place_for_runs(places, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", "/dev/shm/runs")
    if examine_machine.file_system(examine_machine.Path("/dev/shm")) != "tmpfs":
        pytest.skip("no memory file system here")
    word, text, _ = lines(examine_machine.folders)[0]
    assert word == "note" and "lost with the machine" in text


def test_audio(places, monkeypatch):
    assert lines(examine_machine.audio)[0][0] == "note"
    monkeypatch.setenv("EULER_DATA", str(places))
    assert lines(examine_machine.audio)[0][:2] == ("missing", f"EULER_DATA={places}: no audio files")
    (places / "a").mkdir()
    (places / "a" / "song.FLAC").touch()
    assert lines(examine_machine.audio)[0][:2] == ("ok", f"EULER_DATA={places}: 1 or more audio files")
    monkeypatch.setenv("EULER_DATA", str(places / "nothing"))
    assert lines(examine_machine.audio)[0][0] == "missing"


def test_wandb(places, monkeypatch):
    assert lines(examine_machine.wandb)[0][0] == "note"
    monkeypatch.setenv("WANDB_API_KEY", "0")
    assert lines(examine_machine.wandb)[0][0] == "ok"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert lines(examine_machine.wandb)[0][0] == "note"


def test_a_cluster(slurm):
    for command in ("sbatch", "srun", "scancel"):
        slurm.set(command, "")
    slurm.set(
        "sinfo",
        "main*|up|1-00:00:00|2|idle|(null)\nmain*|up|1-00:00:00|1|down*|(null)\ngpu|up|infinite|2|down*|gpu:a100:4\n",
    )
    slurm.set("scontrol", CONFIG.format(requeue=1))
    assert [text for _, text, _ in lines(examine_cluster.cluster)] == [
        "partition main (default): 2 node(s) up, limit 1-00:00:00",
        "partition gpu: 0 node(s) up, limit infinite, gpu:a100:4",
        "jobs may be requeued (JobRequeue=1)",
        "preemption: REQUEUE",
        "accounting answers",
    ]


def test_what_a_cluster_may_lack(slurm):
    for command in ("sbatch", "srun", "scancel"):
        slurm.set(command, "")
    slurm.set("sinfo", "main*|up|infinite|2|idle|(null)\n")
    slurm.set("scontrol", CONFIG.format(requeue=0))
    slurm.set("sacct", "", code=1, errors="Slurm accounting storage is disabled")
    told = lines(examine_cluster.cluster)
    assert [word for word, _, _ in told] == ["ok", "note", "ok", "note"]
    assert "site.requeue=false" in told[1][2] and "slurmdbd" in told[3][2]
    slurm.set("sinfo", "", code=1, errors="Unable to contact slurm controller")
    assert lines(examine_cluster.cluster) == [
        ("missing", "the controller does not answer", "sinfo says why; is this a login node?")
    ]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return how to put a program on the path, which holds nothing else but a shell."""
    monkeypatch.setenv("PATH", str(tmp_path))
    shell = "/bin/sh"

    def put(name, lines):
        (tmp_path / name).write_text(f"#!{shell}\n{lines}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    return put


def test_no_program_for_images(programs):
    ((word, text, remedy),) = lines(examine_images.images)
    assert (word, text) == ("note", "no Apptainer and no Docker here") and "container.executable" in remedy


def test_programs_for_images(programs, tmp_path):
    programs("apptainer", "echo apptainer version 1.4")
    programs("docker", "echo 28.0")
    open_fuse = tmp_path / "fuse"
    open_fuse.touch()
    found = lines(lambda: examine_images.images(open_fuse))
    assert [(word, text) for word, text, _ in found] == [
        ("ok", "apptainer version 1.4"),
        ("ok", "docker, engine 28.0"),
    ]
    absent = lines(lambda: examine_images.images(tmp_path / "none"))
    assert absent[1][0] == "note" and "unpack its image" in absent[1][1]


def test_programs_that_do_not_run(programs):
    programs("singularity", "exit 1")
    programs("docker", "echo cannot connect >&2; exit 1")
    assert [(word, text) for word, text, _ in lines(examine_images.images)] == [
        ("note", "singularity: does not run"),
        ("note", "docker: no engine answers"),
    ]

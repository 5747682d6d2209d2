"""Ranks of a job as srun starts them, here by hand."""

import os
import subprocess
import sys

import pytest

from pipeline.errors import LaunchError
from pipeline.launch import outer
from pipeline.launch.slurm import failure, submission
from tests.config.compositions import compose
from tests.integration.background import environment
from tests.integration.ranks import free_port
from tests.integration.runs import ROOT, TINY


def start(run, cache, port, rank=0, world_size=1):
    """Start one task of a job on a node of its own."""
    told = {
        "SLURM_PROCID": rank,
        "SLURM_NTASKS": world_size,
        "SLURM_LOCALID": 0,
        "SLURM_NODEID": rank,
        "SLURMD_NODENAME": f"node{rank + 1}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "EULER_JOB": "12",
        "EULER_RESTART": 0,
        "PYTHONPATH": ROOT,
        "PYTHONSAFEPATH": 1,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.launch.slurm.task", str(run)],
        cwd="/",
        env=environment(run.parent, cache) | {name: str(value) for name, value in told.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def task(run, cache, world_size=1):
    """Run all tasks of a job; returns the exit codes and what all of them said."""
    port = free_port()
    started = [start(run, cache, port, rank, world_size) for rank in range(world_size)]
    said = [process.communicate(timeout=240)[0] for process in started]
    return [process.returncode for process in started], "\n".join(said)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def submitted(tmp_path, cache, *arguments):
    run = tmp_path / "runs" / "0"
    submission.write(run, compose(*TINY, "trainer.num_gpus=0", f"data.cache_dir={cache}", *arguments))
    return run


@pytest.mark.long
def test_it_begins_the_run_and_goes_on_with_it_to_a_larger_horizon(tmp_path, cache):
    run = submitted(tmp_path, cache)
    codes, said = task(run, cache)
    assert codes == [0] and "weights sha256" in said, said
    assert (run / "config.yaml").is_file() and (run / "checkpoints" / "last.ckpt").is_file()
    assert (failure.job_folder(run) / "checkpoints").read_text() == f"{run / 'checkpoints'}\n"
    submitted(tmp_path, cache, "trainer.trainer.max_steps=5")
    codes, said = task(run, cache)
    assert codes == [0] and "continues from" in said and "max_steps was 3, now 5" in said, said
    assert failure.read(run) is None


def test_an_error_that_only_the_node_can_see(tmp_path, cache):
    (tmp_path / "audio").mkdir()
    run = submitted(tmp_path, cache, "data=folder", f"data.root={tmp_path / 'audio'}")
    (tmp_path / "audio").rmdir()
    codes, _ = task(run, cache)
    assert codes == [1]
    assert failure.read(run)["reason"].startswith("DataError: data.root=")


def test_a_lost_submission(tmp_path, cache):
    codes, said = task(tmp_path / "runs" / "0", cache)
    assert codes == [1] and "submission.yaml: no such file" in said
    assert "submit the run again" in failure.read(tmp_path / "runs" / "0")["reason"]


@pytest.mark.parametrize("arguments", [(), ("trainer.num_processes=2", "trainer.num_nodes=2")])
def test_another_number_of_tasks_stops_at_once(arguments, tmp_path, cache):
    """Two independent copies would train in one directory otherwise."""
    run = submitted(tmp_path, cache, *arguments)
    codes, said = task(run, cache, world_size=2)
    assert codes == [1, 1], said
    assert "the launcher has started 2 rank(s) (WORLD_SIZE)" in failure.read(run)["reason"]
    assert not (run / "config.yaml").exists()


def test_a_process_that_srun_has_not_started(monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LaunchError, match="SLURM_PROCID, .*: not set; srun sets them"):
        outer.take_place_of_task()


def test_the_place_of_a_task(monkeypatch):
    told = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
    for name, value in {**told, "MASTER_ADDR": "node1", "MASTER_PORT": "12345"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.setenv(name, "9")  # so that they are put back afterwards
    outer.take_place_of_task()
    place = outer.find_place()
    assert (place.rank, place.world_size, place.local_rank, os.environ["NODE_RANK"]) == (3, 4, 1, "1")
    assert (place.address, place.port) == ("node1", 12345)

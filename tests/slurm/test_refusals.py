"""Wrong submissions to a real cluster: refused with the remedy, with nothing submitted and nothing written."""

import shlex
import subprocess
import sys

import pytest

from tests.integration.runs import ROOT
from tests.launch.slurm.launches import LAUNCHER
from tests.launch.slurm.test_refused_launches import COMMANDS

pytestmark = pytest.mark.slurm

# arguments -> what the message must contain: what the cluster does not have, then the remedy
BY_THE_CLUSTER = {
    "hydra.launcher.partition=preemptable": (
        "hydra.launcher.partition=preemptable",
        "did you mean 'preemptible'",
    ),
    "hydra.launcher.partition=short": ("hydra.launcher.timeout_min=60", "partition short allows 5"),
    "hydra.launcher.partition=gpu": ("trainer.num_gpus=auto", "set trainer.num_gpus to 1 ... 4, or to 0"),
    "trainer.num_gpus=1": (
        "trainer.num_gpus=1",
        "partition preemptible have no GPUs",
        "set trainer.num_gpus to 0",
    ),
    "hydra.launcher.partition=gpu trainer.num_gpus=8": ("trainer.num_gpus=8", "set trainer.num_gpus to 4"),
    "trainer.num_nodes=3": ("trainer.num_nodes=3", "has 2 nodes", "lower trainer.num_nodes"),
    "trainer.num_processes=16": ("16 ranks a node", "lower", "trainer.num_processes"),
    "hydra.launcher.cpus_per_task=64": (
        "hydra.launcher.cpus_per_task=64",
        "lower hydra.launcher.cpus_per_task",
    ),
    "hydra.launcher.constraint=h100": ("Invalid feature", "set hydra.launcher.constraint"),
    "trainer.optimizer.config.lrr=1 trainer.seed=1,2": ("trainer.optimizer.config.lrr", "did you mean 'lr'"),
    "trainer.seed=1,2 trainer.optimizer.type=AdamW,AdamWW": ("trainer.optimizer.type='AdamWW'", "Valid:"),
}


@pytest.fixture(scope="module")
def refused(running_cluster, workplace):
    """Submits a command line and returns what was said."""
    folder = workplace / "refusals"
    folder.mkdir()
    environment = running_cluster.environment | {
        "EULER_RUNS": str(folder / "runs"),
        "EULER_CACHE": str(folder / "cache"),
    }

    def submit(line):
        command = [sys.executable, str(ROOT / "train.py"), "-m", LAUNCHER, *shlex.split(line)]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )

    known = ("squeue", "--noheader", "--states=all", "--array", "--format=%A")
    before = running_cluster.ask(*known)
    yield submit
    assert running_cluster.ask(*known) == before
    assert list(folder.iterdir()) == []


def check(done, parts):
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said, said
    assert [part for part in parts if part not in said] == [], said


@pytest.mark.parametrize("line", BY_THE_CLUSTER)
def test_what_the_cluster_does_not_have(line, refused):
    check(refused(line), BY_THE_CLUSTER[line])


@pytest.mark.long
@pytest.mark.parametrize("line", COMMANDS)
def test_what_no_cluster_takes(line, refused):
    check(refused(line), COMMANDS[line])

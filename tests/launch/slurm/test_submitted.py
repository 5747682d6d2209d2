"""Launches to a cluster whose `sbatch` does as a test says: what is submitted, and what is left of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.config.command_line import train
from tests.launch.slurm.launches import LAUNCHER
from tests.launch.slurm.recorded import Answers

_TIMEOUT_S = 600  # each loads torch for the whole check


@pytest.fixture
def here(tmp_path):
    """A cluster whose only node is this machine."""
    folder = tmp_path / "programs"
    folder.mkdir()
    answers = Answers(folder)
    answers.jobs("7_0 PENDING Priority", "7_1 PENDING Priority")
    answers.set("sinfo", "cpu*|infinite|1|4|(null)|16000\n")
    answers.set("scontrol", "NodeName=n1 NodeAddr=127.0.0.1 Port=6818\n")
    return answers


def sbatch_says(here, lines):
    program = here.folder / "sbatch"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --test-only ] && exit 0\necho "$*" >> {here.folder}/submitted\n{lines}\n'
    )
    program.chmod(0o755)


def launch(here, tmp_path, home):
    environment = {"PATH": f"{here.folder}:/usr/bin:/bin", "EULER_RUNS": str(tmp_path / "runs")}
    arguments = ("-m", LAUNCHER, "trainer.seed=1,2")
    return train(*arguments, home=tmp_path / home, environment=environment, timeout_s=_TIMEOUT_S)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("Requested node configuration is not available", "ask for less: hydra.launcher.mem_gb"),
        pytest.param(
            "Job violates accounting/QOS policy", "hydra.launcher.timeout_min", marks=pytest.mark.long
        ),
        pytest.param("something else", "hydra.launcher.dry_run=true", marks=pytest.mark.long),
    ],
)
def test_a_refusal_leaves_nothing_and_says_what_helps(words, remedy, here, tmp_path):
    sbatch_says(here, f"echo 'sbatch: error: {words}' >&2; exit 1")
    result = launch(here, tmp_path, "home")
    assert result.code == 1 and "Traceback" not in result.output, result.output
    assert f"{words}; " in result.output and remedy in result.output
    assert list((tmp_path / "runs" / "default").glob("sweep_*")) == []


def test_two_launches_at_one_time_submit_once(here, tmp_path):
    sbatch_says(here, "sleep 1; echo 7")
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda home: launch(here, tmp_path, home), ("one", "two")))
    assert [result.code for result in ended] == [0, 0], [result.output for result in ended]
    assert len((here.folder / "submitted").read_text().splitlines()) == 1
    said = sorted(result.output.count("active, not submitted") for result in ended)
    assert said == [0, 2], [result.output for result in ended]
    assert len(list((tmp_path / "runs" / "default").glob("sweep_*"))) == 1

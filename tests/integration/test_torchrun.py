"""Ranks of an outer launcher: they are one run, or say at once who is wrong."""

import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.integration.background import PATIENCE_S, environment
from tests.integration.ranks import ON_TWO, TIMEOUT_S, Ranks, torchrun
from tests.integration.runs import ROOT, TINY, weights_digest

COMMAND = (*TINY, *ON_TWO)


def the_run(runs):
    (found,) = (path.parent for path in runs.rglob("provenance.json"))
    return found


def weights(runs):
    return weights_digest(the_run(runs) / "checkpoints" / "last.ckpt")


@pytest.fixture
def another_version(tmp_path):
    """A second checkout with one changed comment."""
    tree = tmp_path / "checkout"
    tree.mkdir()
    for name in ("pipeline", "conf"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tree)
    with (tree / "pipeline" / "layers" / "norm.py").open("a") as module:
        module.write("# another comment\n")
    return tree


def test_another_code_version_on_one_rank_is_refused(tmp_path, cache_dir, another_version):
    ranks = Ranks(tmp_path / "runs", cache_dir, 2)
    ranks.start(0, *COMMAND)
    ranks.start(1, *COMMAND, tree=another_version)
    first, second = ranks.end()
    assert first.code == second.code == 1
    for said in (first.errors, second.errors):
        assert "roll call failed: rank 1 on " in said, said
        assert "another version of the code" in said and str(another_version) in said
    assert "Traceback" not in first.errors + second.errors
    assert not (tmp_path / "runs").exists(), "nothing is left of a run that did not begin"


@pytest.mark.long
def test_another_configuration_on_one_rank_is_refused(tmp_path, cache_dir):
    ranks = Ranks(tmp_path / "runs", cache_dir, 2)
    ranks.start(0, *COMMAND)
    ranks.start(1, *COMMAND, "trainer.seed=7")
    first, second = ranks.end()
    assert first.code == second.code == 1
    assert "another configuration (trainer.seed=7, rank 0 on " in first.errors
    assert "rank 1 on " in first.errors and "rank 1 on " in second.errors


@pytest.mark.long
def test_a_wrong_world_size_and_a_missing_rank(tmp_path, cache_dir):
    ranks = Ranks(tmp_path / "runs", cache_dir, 2)
    for rank in range(2):
        ranks.start(rank, *COMMAND, "trainer.num_processes=3")
    first, second = ranks.end()
    assert first.code == second.code == 1
    assert "started 2 rank(s) (WORLD_SIZE), but trainer.num_nodes=1 x trainer.num_processes=3" in first.errors
    ranks = Ranks(tmp_path / "runs", cache_dir, 3)
    for rank in (0, 2):
        ranks.start(rank, *COMMAND, "trainer.num_processes=3", "trainer.start_timeout_s=20")
    first, third = ranks.end()
    assert first.code == third.code == 1
    assert "rank 1 of 3 did not come within trainer.start_timeout_s=20" in first.errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_what_rank_0_refuses_ends_all(tmp_path, cache_dir):
    """A directory that holds a run is seen after the roll call, by rank 0 alone."""
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "config.yaml").write_text("{}\n")
    ranks = Ranks(tmp_path / "runs", cache_dir, 2)
    for rank in range(2):
        ranks.start(
            rank, *COMMAND, "trainer.num_nodes=2", "trainer.num_processes=1", f"run.dir={taken}", local_rank=0
        )
    first, second = ranks.end()
    assert first.code == second.code == 1
    assert "already holds a run" in first.errors
    assert "rank 0 has ended: ConfigError: run.dir=" in second.errors, "the other host says it too"


@pytest.mark.long
def test_torchrun_two_nodes_and_our_own_processes_give_the_same_weights(tmp_path, cache_dir):
    own = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *COMMAND],
        env=environment(tmp_path / "own", cache_dir),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert own.returncode == 0, own.stdout + own.stderr
    outer = torchrun(tmp_path / "outer", cache_dir, *TINY)
    output, _ = outer.communicate(timeout=TIMEOUT_S)
    assert outer.returncode == 0, output
    assert output.count("roll call: 2 ranks on 1 host, all-reduce ok (") == 1
    nodes = Ranks(tmp_path / "nodes", cache_dir, 2)
    for rank in range(2):
        nodes.start(rank, *COMMAND, "trainer.num_nodes=2", "trainer.num_processes=1", local_rank=0)
    for ended in nodes.end():
        assert ended.code == 0, ended.errors
    found = {weights(tmp_path / name) for name in ("own", "outer", "nodes")}
    assert len(found) == 1
    logs = the_run(tmp_path / "nodes") / "logs"
    assert sorted(path.name for path in logs.glob("*.log")) == ["rank-0.log", "rank-1.log"]
    assert "roll call: 2 ranks on 1 host" in (logs / "rank-0.log").read_text()


@pytest.mark.long
def test_torchrun_that_is_stopped_saves_and_goes_on(tmp_path, cache_dir):
    """torchrun passes SIGTERM on to all ranks, kills them later, and is no judge of their exit codes."""
    endless = (*TINY, "trainer.trainer.max_steps=100000", f"run.dir={tmp_path / 'run'}", "run.resume=auto")
    running = torchrun(tmp_path, cache_dir, *endless)
    metrics, deadline = tmp_path / "run" / "metrics.csv", time.monotonic() + PATIENCE_S
    while not (metrics.exists() and metrics.stat().st_size > 300):
        assert time.monotonic() < deadline and running.poll() is None, running.communicate()
        time.sleep(0.2)
    running.terminate()
    output, _ = running.communicate(timeout=TIMEOUT_S)
    assert output.count("SIGTERM received: saving after this step") == 1, output
    assert "SIGTERM received: saved up to step" in output
    saved = int(re.search(r"saved up to step (\d+)", output)[1])
    again = torchrun(tmp_path, cache_dir, *endless, f"trainer.trainer.max_steps={saved}")
    output, _ = again.communicate(timeout=TIMEOUT_S)
    assert again.returncode == 0, output
    assert "run.resume=auto: goes on with the run in" in output and "nothing left to train" in output

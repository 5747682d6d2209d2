"""`benchmarks/scaling.py`: what it concludes from figures, and that it runs, on CPU processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling import Group, efficiencies, judge

ROOT = Path(__file__).resolve().parents[2]


def rows(ddp, deepspeed):
    """Results of 1 and 4 GPUs; the rates of 4 are given."""
    groups = [
        Group("auto", 1, [10.0, 12.0, 1.0]),
        Group("ddp", 1, [10.0, 10.0]),
        Group("ddp", 2, [1.0]),
        Group("ddp", 4, ddp),
        Group("deepspeed", 1, [8.0]),
        Group("deepspeed", 4, deepspeed),
    ]
    return efficiencies(groups)


def test_efficiency_is_a_share_of_one_of_the_same_strategy():
    found = {(row["strategy"], row["processes"]): row for row in rows([9.0, 9.5, 20.0], [7.6])}
    assert found["ddp", 4]["efficiency"] == pytest.approx(0.95)
    assert found["deepspeed", 4]["efficiency"] == pytest.approx(0.95)
    assert found["deepspeed", 4]["efficiency_to_auto"] == pytest.approx(0.76)
    assert found["auto", 1]["efficiency"] == found["ddp", 1]["efficiency"] == 1.0


@pytest.mark.parametrize(
    ("ddp", "deepspeed", "expected"),
    [(9.6, 7.3, [True, True]), (9.4, 7.3, [False, True]), (9.6, 7.1, [True, False])],
)
def test_the_claims_are_about_the_largest_count(ddp, deepspeed, expected):
    verdicts = judge(rows([ddp], [deepspeed]))
    assert [holds for _, holds in verdicts] == expected
    assert [sentence.split(":")[0] for sentence, _ in verdicts] == ["ddp on 4", "deepspeed on 4"]


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "deepspeed"])
def test_it_runs_on_processes(strategy, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), "--cpu", "--strategies", strategy]
    command += ["--rounds", "2", "--steps", "2", "--json", str(tmp_path / "scaling.json")]
    environment = os.environ | {"EULER_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert strategy in ended.stdout
    result = json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    found = {(row["strategy"], row["processes"]): row for row in result["rows"]}
    assert set(found) == {("auto", 1), (strategy, 1), (strategy, 2)}
    assert all(len(row["windows"]) == 2 and min(row["windows"]) > 0 for row in found.values())
    assert result["holds"] is None


@pytest.mark.long
def test_a_rank_that_fails_is_shown(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), "--cpu", "--strategies", "ddp"]
    command += ["--counts", "1", "--batch-size", "-1", "--json", str(tmp_path / "scaling.json")]
    environment = os.environ | {"EULER_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 1
    assert "rank 0 ended" in ended.stderr and "data.train_dataloader.batch_size=-1" in ended.stderr
    assert not (tmp_path / "scaling.json").exists()

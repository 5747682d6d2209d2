"""`benchmarks/end_to_end.py`: what it concludes from figures, what its loader gives, and that it runs on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from benchmarks.end_to_end import Speeds
from benchmarks.end_to_end_data import AlternatingLoader
from pipeline.data.sampler import GlobalBatchSampler

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("from_files", "loader", "transfer", "idle", "limit"),
    [
        (90.0, 200.0, 1000.0, 0.1, "training step"),
        (50.0, 55.0, 1000.0, 0.5, "loader"),
        (20.0, 90.0, 30.0, 0.8, "transfer"),
        (101.0, 200.0, None, 0.0, "training step"),
    ],
)
def test_what_limits_is_the_stage_that_is_slowest_alone(from_files, loader, transfer, idle, limit):
    found = Speeds("flac", from_files, 100.0, loader, transfer, 1.0, {})
    assert found.idle_share == pytest.approx(idle)
    assert found.limit == limit


class Numbers(Dataset):
    def __getitem__(self, key):
        return key.position


def test_the_loader_stands_aside_and_starts_anew_with_an_empty_queue():
    loader = AlternatingLoader(Numbers(), GlobalBatchSampler(100, 1, seed=0), collate_fn=tuple)
    batches = iter(loader)
    assert [next(batches), next(batches)] == [(0,), (1,)]
    loader.resident = "kept"
    loader.begin_resident()
    assert [next(batches), next(batches)] == ["kept", "kept"]
    loader.begin_loading()
    assert [next(batches), next(batches)] == [(5,), (6,)], "three queues of one batch are left out"
    assert len(loader.rates) == 1 and loader.waited_s > 0


@pytest.mark.long
def test_it_runs_on_a_cpu(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "end_to_end.py"), "--cpu", "--pairs", "1"]
    command += ["--json", str(tmp_path / "end_to_end.json"), "data.segment_frames=5"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads((tmp_path / "end_to_end.json").read_text(encoding="utf-8"))
    assert [row["kind"] for row in result["rows"]] == ["packed", "flac"]
    assert all(min(row["from_files"], row["resident"], row["loader"]) > 0 for row in result["rows"])
    assert result["holds"] is None

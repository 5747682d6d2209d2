"""`benchmarks/train_step.py`: what it concludes from figures, and that it runs, on the CPU."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.accuracy import Errors, judge, judge_curves
from benchmarks.claims import Claim, Record
from benchmarks.step_times import Ceilings, StepTime, alternate

ROOT = Path(__file__).resolve().parents[2]


def errors(name, single, gradient, arithmetic="float32"):
    batches = [
        0.6 * gradient,
        1.4 * gradient,
        math.sqrt(0.68) * gradient,
    ]  # the mean of their squares is gradient^2
    return Errors(name, arithmetic, True, {"a": single}, {"a": single}, single, {"a.weight": batches})


def test_the_median_of_all_steps_counts():
    found = StepTime.of("x", [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]], 8, None)
    assert (found.median_ms, found.lowest_ms, found.highest_ms) == (3.5, 2.0, 4.0)
    assert found.segments_per_s == pytest.approx(8 / 3.5e-3)


def test_rounds_alternate():
    order = []

    def measure(name):
        order.append(name)
        return [float(len(order))]

    found = alternate({name: lambda name=name: measure(name) for name in "abc"}, 2)
    assert order == list("abccba")
    assert found == {"a": [[1.0], [6.0]], "b": [[2.0], [5.0]], "c": [[3.0], [4.0]]}


def test_limits_are_those_of_the_ceilings():
    ceilings = Ceilings(bytes_per_s=1e12, flop_per_s={"bf16": 1e15})
    assert ceilings.limit_ms(2e9, 5e12, "bf16") == (2.0, 5.0)


def test_claims_on_errors_are_relative_to_the_plain_form():
    plain = errors("plain", 5e-7, 1e-6)
    found = judge("x", [plain, errors("fold", 2e-6, 1.9e-6), errors("other", 9e-7, 2.1e-6)])
    assert [claim.holds for claim in found] == [True, False, True, True, False]
    assert "at most 0.02" in judge("x", [errors("bf16", 1e-3, 1e-2, "bf16")])[0].sentence


def test_the_form_that_stands_for_the_reference_must_equal_it():
    equal, other = errors("fold", 1e-15, 1e-14, "float64"), errors("fold", 1e-11, 1e-8, "float64")
    assert [claim.holds for claim in judge("x", [equal, other])] == [True, True, False, False]


def test_claims_on_curves_are_about_every_step():
    plain = [1.0, 0.5, 0.25]
    near, far = [1.0, 0.504, 0.25], [1.0, 0.506, 0.25]
    found = judge_curves("x", {"plain": plain, "near": near, "far": far})
    assert [claim.holds for claim in found] == [True, False]


def test_the_file_is_written_as_results_come(tmp_path):
    path = tmp_path / "found.json"
    record = Record(path, torch.device("cpu"))
    record.keep("a", 1)
    assert json.loads(path.read_text(encoding="utf-8"))["a"] == 1
    record.judge([Claim.at_least("b", 2.0, 1.5), Claim.at_most("c", 2.0, 1.5, " ms")])
    assert [row["met"] for row in json.loads(path.read_text(encoding="utf-8"))["claims"]] == [True, False]
    assert not record.all_hold


@pytest.mark.long
def test_it_runs(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "train_step.py"), "--cpu", "--batch-size", "2"]
    command += ["--rounds", "1", "--steps", "1", "--layers", "--deterministic", "--accuracy", "--curves", "3"]
    command += ["--json", str(tmp_path / "step.json")]
    environment = os.environ | {"EULER_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))
    for name, native in (("complex", "native complex64"), ("real", "native float32")):
        assert [row["name"] for row in result[f"{name}/times"]] == [native, "plain", "fold"]
        layers = [row["name"] for row in result[f"{name}/layers"]]
        assert layers[0] == "encoder.levels.0" and len(layers) == 10
        assert set(result[f"{name}/accuracy"][0]["single"]) == set(layers)
        assert len(result[f"{name}/curves"]["plain"]) == 3
    claims = {row["claim"]: row["met"] for row in result["claims"]}
    assert all(
        met for claim, met in claims.items() if "equal weights" in claim or "difference of a loss" in claim
    )

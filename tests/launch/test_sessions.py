"""The starts of a run: recorded, and compared in what decides the last bits."""

import json

import pytest
import torch

from pipeline.launch import sessions as module


def record_session(*arguments):
    return module.record_session(*arguments)[1]


def sessions(run):
    return [json.loads(line) for line in (run / "sessions.jsonl").read_text().splitlines()]


def test_each_start_is_a_line(tmp_path):
    assert record_session(tmp_path, 1, False, 0) == []
    assert record_session(tmp_path, 1, False, 7) == []
    first, second = sessions(tmp_path)
    assert (first["step"], second["step"]) == (0, 7)
    assert first["torch"] == torch.__version__ and len(first["commit"]) == 40
    assert first["host"] and first["cpu"] and first["torch_threads"] == torch.get_num_threads()


def test_what_changes_the_rounding_is_said(tmp_path):
    record_session(tmp_path, 1, False, 0)
    (note,) = record_session(tmp_path, 2, False, 7)
    assert "number of processes (1, then 2)" in note and "up to rounding" in note
    (note,) = record_session(tmp_path, 1, False, 9)
    assert "number of processes (1, then 2)" in note, "one start in between is enough"


def test_a_new_beginning_forgets_what_was_before(tmp_path):
    record_session(tmp_path, 2, False, 0)
    assert record_session(tmp_path, 1, False, 0) == []


def test_another_processor_or_library_is_named(tmp_path):
    record_session(tmp_path, 1, False, 0)
    (first,) = sessions(tmp_path)
    first |= {"cpu": "Other CPU", "torch": "1.0", "gpus": ["A100", "A100"]}
    (tmp_path / "sessions.jsonl").write_text(json.dumps(first) + "\n")
    (note,) = record_session(tmp_path, 1, False, 3)
    assert "CPU (Other CPU, then " in note and "GPU (A100, then none)" in note and "torch (1.0, then " in note


def test_a_line_that_was_cut_short_is_passed_over(tmp_path):
    record_session(tmp_path, 1, False, 0)
    content = (tmp_path / "sessions.jsonl").read_bytes()
    (tmp_path / "sessions.jsonl").write_bytes(content + content[:40])
    assert record_session(tmp_path, 1, False, 7) == []
    assert len((tmp_path / "sessions.jsonl").read_bytes().splitlines()) == 3


@pytest.mark.parametrize("line", ["{}", "[1]", "3", "null", '{"step": 0}'])
def test_a_line_of_another_origin_is_passed_over(tmp_path, line):
    record_session(tmp_path, 2, False, 0)
    with (tmp_path / "sessions.jsonl").open("a") as file:
        file.write(line + "\n")
    (note,) = record_session(tmp_path, 1, False, 7)
    assert "number of processes (2, then 1)" in note

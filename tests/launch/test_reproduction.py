"""What a run says about its first steps, and how two sequences of losses compare."""

import json

import pytest

from pipeline.errors import LaunchError
from pipeline.launch import reproduce
from pipeline.launch.reproduction.data_check import check_data
from pipeline.launch.reproduction.finding import Verdict
from pipeline.launch.reproduction.recorded import (
    check_shape,
    find_beginning,
    first_difference,
    lost_steps,
    read_losses,
)

START = {"step": 0, "world_size": 1, "commit": "a", "torch": "2", "batch_size": 4, "strategy": "auto"}


def started(*changes):
    return {"attempts": [{**START, **change} for change in changes]}


def test_a_run_that_was_resumed_as_it_was_compares_all_the_way():
    beginning = find_beginning(started({}, {"step": 7, "host": "b", "slurm": {"restart": 1}}))
    assert beginning.attempt["step"] == 0 and beginning.comparable_steps is None
    assert beginning.newest["step"] == 7


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"world_size": 2, "batch_size": 2}, "number of processes, batch size"),
        ({"commit": "b"}, "commit"),
        ({"torch": "3"}, "torch"),
    ],
)
def test_what_changed_on_the_way_ends_the_comparison_there(change, name):
    beginning = find_beginning(started({}, {"step": 5}, {"step": 9, **change}, {"step": 12}))
    assert (beginning.comparable_steps, beginning.change) == (9, name)


def test_a_new_beginning_counts_instead_of_the_first():
    beginning = find_beginning(started({"torch": "1"}, {"torch": "3"}, {"step": 4, "torch": "3"}))
    assert beginning.attempt["torch"] == "3" and beginning.comparable_steps is None


@pytest.mark.parametrize("record", [{}, {"attempts": []}, {"attempts": [3]}, started({"step": 5})])
def test_a_run_without_a_recorded_beginning(record):
    assert find_beginning(record) is None


def test_the_first_step_that_differs_is_named():
    one, other = [["0x1p+0"], ["0x1p+1", "0x1p+2"]], [["0x1p+0"], ["0x1p+1", "0x1.0000000000001p+2"]]
    assert first_difference(one, one) is None
    assert first_difference([["nan"]], [["nan"]]) is None
    assert first_difference(one, other).startswith("step 2: the loss was 2.0 (0x1p+1), 4.0 (0x1p+2), is 2.0 ")


@pytest.mark.parametrize(
    "lines", [["{"], ['{"step": 2, "loss": ["0x1p+0"]}'], ['{"step": 1, "loss": ["x"]}'], ["[]"]]
)
def test_damaged_losses_are_named(tmp_path, lines):
    assert read_losses(tmp_path) is None
    (tmp_path / "losses.jsonl").write_text("\n".join(lines))
    with pytest.raises(LaunchError, match="losses.jsonl: damaged in line 1"):
        read_losses(tmp_path)


def test_losses_are_read(tmp_path):
    rows = [{"step": 1, "loss": ["0x1p+0"]}, {"step": 2, "loss": ["inf"]}]
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_losses(tmp_path) == [["0x1p+0"], ["inf"]]


@pytest.mark.parametrize(
    ("state", "step", "lines", "whole"),
    [
        ("finished", 4, 4, None),
        ("finished", 4, 3, 4),
        ("stopped", 4, 3, 4),
        ("finished", 1000, 200, None),
        ("finished", 1000, 199, 200),
        ("running", 39, 20, None),  # killed, before the next were written
        ("failed", 40, 20, None),
        ("running", 41, 20, 40),
        ("running", 1000, 199, 200),
        ("running", 0, 0, None),
    ],
)
def test_losses_that_were_cut_are_damaged(tmp_path, state, step, lines, whole):
    losses = [["0x1p+0"]] * lines
    assert lost_steps(tmp_path, losses) is None
    progress = {"state": state, "step": step, "epoch": 0, "horizon": {}}
    (tmp_path / "progress.json").write_text(json.dumps(progress))
    said = f"{tmp_path / 'losses.jsonl'}: damaged, it has {lines} steps of the first {whole} that the run trained"
    assert lost_steps(tmp_path, losses) == (None if whole is None else said)


@pytest.mark.parametrize("words", [[], [""], [" "], ["--steps", "3"]])
def test_a_run_that_is_not_named_is_not_the_current_folder(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["reproduce", *words])
    with pytest.raises(SystemExit) as ended:
        reproduce.main()
    assert ended.value.code == 2
    assert "RUN=DIR is missing: make reproduce RUN=runs/NAME/DATE_TIME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"lock": "requirements-cpu.lock"}, "lock is damaged"),
        ({"lock": {"name": "x"}}, "lock is damaged"),
        ({"git": []}, "git is damaged"),
        ({"init_from": {}}, "init_from is damaged"),
        ({"attempts": {}}, "attempts is damaged"),
        (started({}), "attempts is damaged: gpus, torch_threads of the start"),
    ],
)
def test_a_damaged_record_is_named(record, said):
    with pytest.raises(LaunchError, match=said):
        check_shape(record)


@pytest.mark.parametrize(
    "record", [{}, {"lock": None, "image": None}, started({"gpus": [], "torch_threads": 1})]
)
def test_a_record_that_lacks_what_is_not_known_is_whole(record):
    check_shape(record)


@pytest.mark.parametrize(
    "line", ["[]", "[1, 2, 3, 4, 5]", '"abcde"', '["other", "a.wav", 1, 1, "whole:0"]', "[1"]
)
def test_a_damaged_list_of_data_is_a_difference(tmp_path, line):
    (tmp_path / "data.jsonl").write_text(f"{line}\n")
    finding = check_data(tmp_path, {}, None)
    assert finding.verdict is Verdict.DIFFERENT and "data.jsonl: damaged" in finding.text


@pytest.mark.parametrize("lines", [[], ['["both", "a.wav", 1, 1, "whole:0"]']])
def test_a_list_of_data_that_lost_its_end_or_is_gone_is_a_difference(tmp_path, lines):
    if lines:
        (tmp_path / "data.jsonl").write_text("\n".join(lines))
    finding = check_data(tmp_path, {"data": {"files": 2}}, None)
    assert finding.verdict is Verdict.DIFFERENT and "data.jsonl: " in finding.text
    assert "names 1 of 2 files" in finding.text or "lost" in finding.text

"""What a run says about its first steps, and how two sequences of losses compare."""

import json

import pytest

from pipeline.errors import LaunchError
from pipeline.launch.reproduction.recorded import find_beginning, first_difference, read_losses

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

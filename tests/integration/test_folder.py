"""A folder of one's own, with everything in it that a folder may hold."""

import numpy as np
import pytest
import soundfile

from tests.data.conftest import write_bad_files, write_good_files
from tests.integration.runs import TINY


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "my audio"
    good = write_good_files(root)
    reasons = write_bad_files(root, good)
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "song.m4a").write_bytes(b"\0" * 100)
    return root, good, reasons


def test_trains_and_names_each_bad_file_once(train, folder):
    root, good, reasons = folder
    run = train("data=folder", f"data.root={root}", *TINY)
    assert run.code == 0, run.output
    assert f"{len(reasons)} bad files left out" in run.output
    for name, reason in reasons.items():
        lines = [line for line in run.output.splitlines() if f"{name}" in line and reason in line]
        assert len(lines) == 1, (name, reason, lines)
    for name in good:
        assert not [line for line in run.output.splitlines() if f"{root}/{name}:" in line], name
    assert "m4a" in run.output


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "data.root"),
        ({"notes.txt": b"hello"}, "data.root"),
        ({"a.wav": b"", "b.flac": b"no"}, "data.root"),
    ],
)
def test_nothing_usable_is_one_clear_sentence(train, tmp_path, files, sentence):
    root = tmp_path / "audio"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    run = train("data=folder", f"data.root={root}", *TINY)
    assert run.code == 1 and "Traceback" not in run.output
    last = [line for line in run.output.splitlines() if line.startswith("DataError")]
    assert len(last) == 1 and sentence in last[0] and str(root) in last[0], run.output


def test_a_file_that_turns_bad_while_training_is_named_and_replaced(train, tmp_path):
    """The scan decodes a float file at its start, middle and end; what lies between is met while reading."""
    root = tmp_path / "audio"
    root.mkdir()
    rng = np.random.default_rng(1)
    for number in range(3):
        samples = rng.standard_normal(44100 * 10).astype(np.float32) * 0.1
        if number == 0:
            samples[44100 * 1 : 44100 * 4] = np.nan
        soundfile.write(root / f"{number}.wav", samples, 44100, subtype="FLOAT")
    run = train(
        "data=folder", f"data.root={root}", *TINY, "trainer.trainer.max_steps=30", "data.eval_fraction=0.01"
    )
    assert run.code == 0, run.output
    named = [line for line in run.output.splitlines() if "0.wav" in line]
    assert len(named) == 1, run.output

"""The copy of the code that a job runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pipeline.errors import LaunchError
from pipeline.launch.provenance import REVISION
from pipeline.launch.slurm import snapshot
from tests.integration.runs import ROOT

TELL = """
import json, sys
from pipeline.launch import provenance
json.dump([str(provenance.ROOT), provenance.revision()], sys.stdout)
"""


def git(checkout, *arguments):
    who = ("-c", "user.name=A", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *arguments], cwd=checkout, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own, to edit."""
    place = tmp_path / "checkout"
    for name in ("pipeline", "conf"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", place)
    git(place, "init", "-q")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "all")
    monkeypatch.setattr(snapshot, "ROOT", place)
    monkeypatch.setattr("pipeline.launch.provenance.ROOT", place)
    return place


def test_the_place_is_known_before_and_nothing_is_written_for_it(checkout, tmp_path):
    planned = snapshot.planned(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    assert snapshot.take(tmp_path / "home") == planned
    assert planned.parent == tmp_path / "home" / "code"
    assert os.listdir(planned.parent) == [planned.name]


def test_an_edit_makes_another_copy_and_leaves_the_first(checkout, tmp_path):
    first = snapshot.take(tmp_path)
    assert snapshot.take(tmp_path) == first
    (checkout / "conf" / "config.yaml").write_text("run: {}\n")
    second = snapshot.take(tmp_path)
    assert second != first
    assert (first / "conf" / "config.yaml").read_bytes() == (ROOT / "conf" / "config.yaml").read_bytes()
    assert (second / "conf" / "config.yaml").read_text() == "run: {}\n"


def test_what_is_no_code_makes_no_other_copy(checkout, tmp_path):
    first = snapshot.take(tmp_path)
    (checkout / "pipeline" / "__pycache__").mkdir()
    (checkout / "pipeline" / "__pycache__" / "x.pyc").write_bytes(b"1")
    (checkout / "pipeline" / ".#run.py").symlink_to("nowhere")
    (checkout / "README.md").write_text("words")
    assert snapshot.planned(tmp_path) == first


def test_the_files_are_not_to_be_edited(checkout, tmp_path):
    for path in snapshot.take(tmp_path).rglob("*"):
        assert path.is_dir() or not path.stat().st_mode & 0o222


def test_a_copy_that_was_edited_is_refused(checkout, tmp_path):
    copy = snapshot.take(tmp_path) / "train.py"
    copy.chmod(0o644)
    copy.write_text("")
    with pytest.raises(LaunchError, match=r"was changed after it was taken; .* remove it"):
        snapshot.take(tmp_path)


def test_a_place_that_cannot_be_written(checkout, tmp_path):
    (tmp_path / "code").write_text("")
    with pytest.raises(LaunchError, match=r"cannot be copied there .*EULER_RUNS"):
        snapshot.take(tmp_path)


def test_the_copy_knows_its_commit_within_another_checkout(checkout, tmp_path):
    """And it is itself the source of the next copy, as when a job submits another."""
    (checkout / "train.py").write_text("changed = True\n")
    home = checkout / "runs"
    copy = snapshot.take(home)
    git(checkout, "commit", "-qam", "later")
    ended = subprocess.run(
        [sys.executable, "-c", TELL],
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        check=True,
    )
    place, told = json.loads(ended.stdout)
    assert place == str(copy)
    first = subprocess.run(["git", "rev-parse", "HEAD~"], cwd=checkout, capture_output=True, check=True)
    assert told["commit"] == first.stdout.decode().strip()
    assert "+changed = True" in told["diff"]
    assert told == json.loads((copy / REVISION).read_text())

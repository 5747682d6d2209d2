"""The lock that packages were installed from, and how they stand to it; the job that a run is part of."""

import hashlib
import json

import pytest

from pipeline.launch import attempt, image, surroundings

LOCK = "numpy==2.0 \\\n    --hash=sha256:ab\nPy_YAML==6.0 ; python_version > '3'\n"


DIGEST = hashlib.sha256(LOCK.encode()).hexdigest()


@pytest.fixture
def installed_from(tmp_path, monkeypatch):
    """An environment whose stamp names a lock of this checkout."""
    (tmp_path / "requirements-x.lock").write_text(LOCK)
    monkeypatch.setattr(surroundings, "_LOCKS", tmp_path)
    monkeypatch.setattr("sys.prefix", str(tmp_path))

    def stamp(sha256=DIGEST):
        facts = {"lock": "requirements-x.lock", "sha256": sha256}
        (tmp_path / surroundings.LOCK_STAMP).write_text(json.dumps(facts))

    return stamp


def test_packages_that_equal_their_lock(installed_from):
    installed_from()
    found = surroundings.lock({"numpy": "2.0", "py-yaml": "6.0", "pytest": "8"})
    assert found["name"] == "requirements-x.lock" and found["unlike"] == []


def test_packages_that_left_their_lock_are_named(installed_from):
    installed_from()
    assert surroundings.lock({"numpy": "2.1"})["unlike"] == [
        "numpy 2.1 (lock: 2.0)",
        "py-yaml is missing (lock: 6.0)",
    ]


def test_a_lock_that_was_changed_since_tells_nothing(installed_from):
    installed_from("cd")
    assert surroundings.lock({"numpy": "2.1"}) == {
        "name": "requirements-x.lock",
        "sha256": "cd",
        "unlike": None,
    }


@pytest.mark.parametrize("stamp", [None, "{", "[]", "{}"])
def test_without_a_stamp_the_image_tells_the_lock(tmp_path, monkeypatch, stamp):
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    if stamp is not None:
        (tmp_path / surroundings.LOCK_STAMP).write_text(stamp)
    assert surroundings.lock({}) is None
    monkeypatch.setattr(image, "IMAGE_FILE", tmp_path / "image.json")
    (tmp_path / "image.json").write_text('{"lock": "requirements-x.lock", "lock_sha256": "ef"}')
    assert surroundings.lock({}) == {"name": "requirements-x.lock", "sha256": "ef", "unlike": None}


def test_an_image_is_known_by_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.delenv("APPTAINER_CONTAINER", raising=False)
    monkeypatch.setenv("EULER_IMAGE", "/x.sif")
    assert image.image() is None, "on a host it names the image of jobs"
    monkeypatch.setattr(image, "IMAGE_FILE", tmp_path / "image.json")
    (tmp_path / "image.json").write_text('{"revision": "abc"}')
    assert image.image() == {"path": "/x.sif", "digest": None, "revision": "abc"}
    monkeypatch.setenv("EULER_IMAGE_DIGEST", "sha256:1")
    assert image.image()["digest"] == "sha256:1"


def test_the_job_of_a_start(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert attempt._slurm() is None
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("EULER_RESTART", "2")
    assert attempt._slurm() == {"job": "17", "restart": 2}

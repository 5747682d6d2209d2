"""The image of a launch, looked at before anything is submitted; a stand-in for apptainer tells its labels."""

import json
import logging
import re
import sys
from dataclasses import replace
from hashlib import sha256

import pytest

from pipeline.config.container_schema import ContainerSettings
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch.provenance import ROOT
from pipeline.launch.slurm import elsewhere, images
from pipeline.launch.slurm.enclosure import enclosure
from tests.launch.slurm.launches import prepared

_LOCK = "requirements-cpu.lock"


@pytest.fixture
def built(tmp_path):
    """Makes an image with labels, and returns the settings that name it."""

    def make(labels=None, code=0, said="", **settings):
        path = tmp_path / "euler.sif"
        path.write_text("an image\n")
        program = tmp_path / "apptainer"
        answer = json.dumps({"data": {"attributes": {"labels": labels}}, "type": "container"})
        program.write_text(f"#!/bin/sh\necho '{said}' >&2\ncat <<'END'\n{answer}\nEND\nexit {code}\n")
        program.chmod(0o755)
        values = {"image": str(path), "binds": [], "executable": str(program), "args": []}
        return ContainerSettings(**values | settings)

    return make


def labels(**more):
    digest = sha256((ROOT / "containers" / _LOCK).read_bytes()).hexdigest()
    return {images.LOCK_NAME: _LOCK, images.LOCK_DIGEST: digest} | more


def refusal(settings):
    with pytest.raises(LaunchError) as caught:
        images.check_image(settings)
    return str(caught.value)


def test_an_image_of_this_checkout(built):
    images.check_image(built(labels()))


def test_files(built, tmp_path):
    assert "no such file; valid: an Apptainer image" in refusal(built(labels(), image="/no/such.sif"))
    assert f"container.image={tmp_path}: a folder" in refusal(built(labels(), image=str(tmp_path)))


def test_no_apptainer_here(built):
    said = refusal(built(labels(), executable="no-such-apptainer"))
    assert "container.executable=no-such-apptainer: no such program here" in said


def test_no_image(built):
    said = refusal(built(code=255, said="FATAL: not a SIF"))
    assert "is no image that apptainer can read (FATAL: not a SIF)" in said


@pytest.mark.parametrize("found", [None, {}, {"org.label-schema.version": "1"}])
def test_an_image_of_something_else(found, built):
    assert "is no image of this project; `make sif` builds one" in refusal(built(found))


def test_another_lock(built):
    said = refusal(
        built(labels(**{images.LOCK_DIGEST: "0" * 64, "org.opencontainers.image.revision": "abc"}))
    )
    assert f"another containers/{_LOCK}" in said
    assert "build the image anew (make sif), or check out abc" in said
    assert "which this checkout does not have" in refusal(built(labels(**{images.LOCK_NAME: "old.lock"})))


def test_other_versions_here(built, monkeypatch):
    found = images.importlib.metadata.version
    monkeypatch.setattr(
        images.importlib.metadata, "version", lambda name: "9.9" if name == "pydantic" else found(name)
    )
    said = refusal(built(labels()))
    assert re.search(r"pydantic 9\.9 is installed here, and containers/\S+, .* has \d", said)
    assert "make env-submit" in said


def without_torch(line, monkeypatch, **container):
    """Checks a point where no torch is, whole."""
    point = prepared(line, cluster=None)
    monkeypatch.setattr(elsewhere, "trains_here", lambda config: False)
    if container:
        settings = point.config.container.model_copy(update=container)
        point = replace(point, config=point.config.model_copy(update={"container": settings}))
    return elsewhere.check_whole([point])


def test_the_interpreter_of_the_jobs_checks(monkeypatch):
    """It answers what this process would have found with torch, and refuses in the same words."""
    line = f"hydra.launcher.python={sys.executable} trainer.optimizer.type=SGD"
    (point,) = without_torch(line, monkeypatch)
    assert (
        point.checked.trainer.optimizer.type == "SGD"
        and "betas" not in point.checked.trainer.optimizer.config
    )
    assert any("dropped inherited" in note for note in point.notes)
    with pytest.raises(ConfigError, match=r"trainer\.optimizer\.config\.lrr"):
        without_torch(f"{line} trainer.optimizer.config.lrr=1", monkeypatch)


def test_neither_torch_nor_image(monkeypatch):
    with pytest.raises(LaunchError, match="no torch is installed here.*container.image=FILE.sif"):
        without_torch("", monkeypatch)


def test_a_preview_says_so_too(monkeypatch, caplog):
    """Where nothing looks after the jobs' packages, and only there."""
    caplog.set_level(logging.INFO, elsewhere.__name__)
    monkeypatch.setattr(elsewhere, "trains_here", lambda config: False)
    elsewhere.say_what_is_left(
        [prepared("hydra.launcher.python=/bin/true", cluster=None)], is_submitting=True
    )
    assert caplog.messages == []
    elsewhere.say_what_is_left([prepared("", cluster=None)] * 2, is_submitting=True)
    (said,) = caplog.messages
    with pytest.raises(LaunchError) as refused:
        without_torch("", monkeypatch)
    assert said == f"note: {refused.value}" and "no torch is installed here" in said


def test_what_a_preview_leaves_out_of_an_image(built, caplog):
    """Nothing is left out where nothing is submitted."""
    caplog.set_level(logging.INFO, elsewhere.__name__)
    point = prepared("", cluster=None)
    config = point.config.model_copy(update={"container": built(labels())})
    elsewhere.say_what_is_left([replace(point, config=config)], is_submitting=False)
    assert caplog.messages == []
    elsewhere.say_what_is_left([replace(point, config=config)] * 2, is_submitting=True)
    (said,) = caplog.messages
    assert said.startswith(f"not checked by a preview: container.image={config.container.image}")


def test_an_interpreter_that_cannot_check(monkeypatch):
    with pytest.raises(
        LaunchError, match="hydra.launcher.python=/bin/false: the configuration cannot be checked"
    ):
        without_torch("hydra.launcher.python=/bin/false", monkeypatch)


def test_what_is_recorded_of_it(built, tmp_path):
    config = prepared("", cluster=None).config.model_copy(update={"container": built(labels())})
    inside = enclosure([config], [])
    assert inside is not None
    images.record(tmp_path / "run", inside)
    digest, size, mtime = (tmp_path / "run" / ".job" / "image").read_text().split()
    facts = inside.image.stat()
    assert digest == f"sha256:{sha256(inside.image.read_bytes()).hexdigest()}"
    assert (int(size), int(mtime)) == (facts.st_size, int(facts.st_mtime))
    images.record(tmp_path / "run", None)
    assert not (tmp_path / "run" / ".job" / "image").exists()

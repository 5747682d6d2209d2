"""The uncommitted changes that a run keeps: whole, applicable, and the same whatever git is set to."""

import os
import subprocess

import pytest

from pipeline.launch import checkout, provenance


def git(place, *arguments):
    who = ("-c", "user.name=A", "-c", "user.email=a@b")
    return subprocess.run(["git", *who, *arguments], cwd=place, check=True, capture_output=True).stdout


@pytest.fixture
def place(tmp_path):
    """A checkout with a file whose last line is empty, and one that is no text."""
    folder = tmp_path / "checkout"
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline" / "x.py").write_bytes(b"a\nb\nc\n\n")
    (folder / "weights").write_bytes(b"a\0b")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


CHANGES = {
    "an empty line at the end": ("pipeline/x.py", b"a\nB\nc\n\n"),
    "another encoding": ("pipeline/x.py", b"a\n\xe4\nc\n\n"),
    "lines that end otherwise": ("pipeline/x.py", b"a\r\nb\r\n\r\n"),
    "no text": ("weights", b"a\0c"),
    "code that git does not know": ("pipeline/models/new.py", b"x = 1\n"),
}


@pytest.mark.parametrize(("name", "content"), CHANGES.values(), ids=CHANGES)
def test_what_is_kept_brings_the_changes_back(place, tmp_path, name, content):
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_bytes(content)
    diff = checkout.changes(place)
    provenance.keep_diff(tmp_path, diff)
    git(place, "reset", "-q", "--hard")
    git(place, "clean", "-qfd")
    assert checkout.changes(place) == ""
    git(place, "apply", tmp_path / provenance.UNCOMMITTED)
    assert (place / name).read_bytes() == content
    assert checkout.changes(place) == diff


@pytest.mark.parametrize(
    "setting",
    [
        "color.ui=always",
        "diff.noprefix=true",
        "diff.mnemonicPrefix=true",
        "diff.external=/bin/false",
        "diff.context=1",
        "diff.algorithm=patience",
        "core.abbrev=9",
    ],
)
def test_what_git_is_set_to_changes_nothing(place, setting):
    (place / "pipeline" / "x.py").write_bytes(b"a\nB\nc\n\n")
    before = checkout.diff_digest(checkout.changes(place))
    git(place, "config", *setting.split("="))
    assert before is not None and checkout.diff_digest(checkout.changes(place)) == before


def test_another_repository_of_the_environment_is_not_asked(place, tmp_path, monkeypatch):
    own = git(place, "rev-parse", "HEAD").decode().strip()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert checkout.commit(place) == own and checkout.changes(place) == ""


@pytest.mark.skipif(os.getuid() != 0, reason="gives the checkout to another user")
def test_a_checkout_of_another_user_tells_its_commit(place):
    for path in (place, place / ".git"):
        os.chown(path, 65534, 65534)
    assert checkout.commit(place) is not None and checkout.changes(place) == ""


def test_without_a_checkout_nothing_is_known(tmp_path):
    assert checkout.commit(tmp_path) is None and checkout.changes(tmp_path) is None


def test_other_changes_have_another_digest():
    assert checkout.diff_digest("") is None and checkout.diff_digest(None) is None
    assert checkout.diff_digest("index 1..2\n+a\n") == checkout.diff_digest("index 123..234\n+a\n")
    assert checkout.diff_digest("+a\n") != checkout.diff_digest("+b\n")

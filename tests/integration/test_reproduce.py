"""`make reproduce`: a run that is the same says so, and the first thing that is not is named."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from pipeline.launch import image
from pipeline.launch.lock import hold
from pipeline.launch.surroundings import LOCK_STAMP
from tests.integration.kept_run import edit, forget_losses, record, recorded
from tests.integration.runs import ROOT


def state_of(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in (folder, *folder.rglob("*"))
    }


def test_the_same_run_is_identical_and_left_alone(finished_run, ask, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = state_of(finished_run)
    code, said = ask(finished_run / "run")
    assert code == 0, said
    assert "identical  4 steps" in said and "4 steps are recorded" in said
    assert state_of(finished_run) == before and list(tmp_path.iterdir()) == []


def test_what_a_run_records_is_whole(finished_run):
    facts = json.loads((finished_run / "run" / "provenance.json").read_text())
    assert facts["data"]["files"] == 4 and facts["data"]["train_root"] == str(finished_run / "audio")
    assert facts["packages"]["numpy"] and facts["git"]["code_sha256"]
    assert facts["hardware"]["driver"] is None or facts["hardware"]["gpus"]
    (attempt,) = facts["attempts"]
    assert attempt["step"] == 0 and attempt["torch_threads"] == 1 and attempt["changes"] == {}
    losses = [json.loads(line) for line in (finished_run / "run" / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    with (finished_run / "run" / "metrics.csv").open() as file:
        header, *rows = (line.rstrip("\n").split(",") for line in file)
    column = header.index("train/loss")
    logged = [float(row[column]).hex() for row in rows if row[column]]
    assert logged == [line["loss"][0] for line in losses]


@pytest.mark.parametrize(
    ("key", "old", "new", "said"),
    [
        ("seed", "seed: 94", "seed: 95", "trainer.seed was 94, is 95"),
        ("rate", "lr: 0.003", "lr: 0.004", "trainer.optimizer.config.lr was 0.003, is 0.004"),
    ],
)
@pytest.mark.parametrize("both", [False, True], ids=["config.yaml", "and Hydra's copy"])
def test_an_edited_configuration_is_named(copied, ask, key, old, new, said, both):
    edit(copied.run / "config.yaml", old, new)
    if both:
        shutil.copy(copied.run / "config.yaml", copied.run / ".hydra")
        said = said if key == "seed" else "config.yaml was edited"
    code, output = ask(copied.run, "--data", copied.audio)
    assert code == 1 and f"different  config: {copied.run}" in output.replace(
        "different  config: trainer", f"different  config: {copied.run} trainer"
    )
    assert said in output and "losses" not in output


def test_a_comment_in_the_configuration_changes_nothing(copied, ask):
    forget_losses(copied.run)
    edit(copied.run / "config.yaml", "seed: 94", "seed: 94 # of old")
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "config     same" in said and "data       same" in said


def replace_in_place(audio):
    """Other content of the same size, with the same time."""
    stat = (audio / "c.wav").stat()
    content = bytearray((audio / "c.wav").read_bytes())
    content[31000] ^= 1
    (audio / "c.wav").write_bytes(content)
    os.utime(audio / "c.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def exchange(audio):
    noise = np.random.default_rng(9).normal(0, 0.1, 44100)
    soundfile.write(audio / "c.wav", noise, 44100)


def shorten(audio):
    soundfile.write(audio / "c.wav", np.zeros(30000), 44100)


DATA = {
    "one bit of it": (replace_in_place, "c.wav: its content has changed"),
    "other audio of the same size": (exchange, "c.wav: its content has changed"),
    "shorter": (shorten, "c.wav: had 88244 bytes, has 60044"),
    "gone": (lambda audio: (audio / "c.wav").unlink(), "c.wav: is gone"),
    "no audio": (lambda audio: (audio / "c.wav").write_text("text"), "c.wav: no audio header"),
    "another file": (lambda audio: shutil.copy(audio / "c.wav", audio / "e.wav"), "e.wav: was not there"),
    "no folder": (shutil.rmtree, "is not a folder"),
}


@pytest.mark.parametrize(("change", "said"), DATA.values(), ids=DATA)
def test_changed_data_are_named(copied, ask, change, said):
    change(copied.audio)
    code, output = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "different  data: " in output and said in output, output
    assert ("--ignore data goes on" in output) == ("is not a folder" not in said)
    assert str(copied.audio) in output and "losses" not in output


def test_without_data_nothing_goes_on(copied, ask):
    shutil.rmtree(copied.audio)
    code, said = ask(copied.run, "--data", copied.audio, "--ignore", "data")
    assert code == 1 and "ignored" not in said and "--ignore" not in said
    assert "different  data: " in said and f"{copied.audio} is not a folder" in said


def test_a_file_that_was_only_touched_is_the_same(copied, ask):
    forget_losses(copied.run)
    os.utime(copied.audio / "c.wav", ns=(1, 1))
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "data       same: 4 files" in said and "nothing to compare with" in said


def test_an_upgraded_package_is_named(copied, ask, tmp_path, monkeypatch):
    facts = tmp_path / "site" / "numpy-99.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    code, said = ask(copied.run, "--data", copied.audio)
    version = recorded(copied.run, "packages")["numpy"]
    assert code == 1 and f"different  packages: numpy was {version}, is 99.0" in said


def test_a_missing_package_and_another_python_are_named(copied, ask):
    packages = recorded(copied.run, "packages")
    record(copied.run, packages=packages | {"absent-thing": "1.0"})
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "packages: absent-thing was 1.0, is missing" in said
    record(copied.run, packages=packages, python="3.9.1")
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "packages: Python was 3.9.1, is 3." in said


def test_another_commit_is_named_and_can_be_passed_over(copied, ask):
    forget_losses(copied.run)
    git = recorded(copied.run, "git")
    record(copied.run, git=git | {"commit": "0" * 40})
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and f"different  commit: it was {'0' * 40}, is {git['commit']}" in said
    assert "with the same train.py" in said and f"git checkout {'0' * 40}" in said
    code, said = ask(copied.run, "--data", copied.audio, "--ignore", "commit,config")
    assert code == 1 and "commit     different (ignored)" in said and "data       same" in said


def test_other_uncommitted_changes_are_named(copied, ask):
    git = recorded(copied.run, "git")
    record(copied.run, git=git | {"dirty": True, "diff_sha256": "1" * 64})
    (copied.run / "uncommitted.diff").write_text("diff --git a/pipeline/x.py b/pipeline/x.py\n+1\n")
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "other uncommitted changes: they were pipeline/x.py, are " in said
    record(copied.run, git=git | {"code_sha256": "1" * 64})
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "files that git does not track differ" in said


def test_another_lock_is_named(copied, ask, tmp_path, monkeypatch):
    (tmp_path / LOCK_STAMP).write_text('{"lock": "requirements-x.lock", "sha256": "ab"}')
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    record(copied.run, lock={"name": "requirements-x.lock", "sha256": "cd", "unlike": None})
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1
    assert "different  lock: it was requirements-x.lock (cd), is requirements-x.lock (ab)" in said
    assert said.index("image ") < said.index("lock ") and "packages   " not in said


def test_another_image_is_named_first(copied, ask, tmp_path, monkeypatch):
    record(copied.run, image={"path": "/x.sif", "digest": "sha256:1", "revision": "abc"}, packages={"x": "1"})
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "different  image: it was /x.sif (sha256:1), is no image" in said
    monkeypatch.setattr(image, "IMAGE_FILE", tmp_path / "image.json")
    (tmp_path / "image.json").write_text('{"revision": "abd", "lock": "requirements-cpu.lock"}')
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "different  image: its revision was abc, is abd" in said
    monkeypatch.setenv("EULER_IMAGE_DIGEST", "sha256:1")
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "image      same" in said


def test_a_run_of_an_earlier_version_says_what_cannot_be_checked(copied, ask):
    facts = json.loads((copied.run / "provenance.json").read_text())
    kept = ("started", "command", "overrides", "seed", "config_sha256", "python", "packages", "hardware")
    git = {key: facts["git"][key] for key in ("commit", "dirty")}
    (copied.run / "provenance.json").write_text(json.dumps({key: facts[key] for key in kept} | {"git": git}))
    (copied.run / "data.jsonl").unlink()
    forget_losses(copied.run)
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1
    for topic in ("image", "lock", "data"):
        assert f"{topic:<11}not checked: not recorded" in said
    assert "not known  no losses of the first steps are recorded" in said


def test_a_run_that_is_being_trained_is_refused(copied, ask):
    with hold(copied.run):
        code, said = ask(copied.run)
    assert code == 1 and f"is being trained (process {os.getpid()} on " in said


@pytest.mark.parametrize("name", ["audio", "nothing", "run/losses.jsonl"])
def test_what_is_no_run_is_refused(copied, ask, name):
    code, said = ask(copied.place / name)
    assert code == 1 and f"ConfigError: RUN={copied.place / name}: " in said and "no run" in said


def test_losses_that_were_cut_are_named(copied, ask):
    lines = (copied.run / "losses.jsonl").read_text().splitlines(keepends=True)
    (copied.run / "losses.jsonl").write_text("".join(lines[:3]))
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "identical" not in said
    assert f"different  losses: {copied.run / 'losses.jsonl'}: damaged, it has 3 steps of the first 4" in said


def test_sigterm_leaves_nothing_behind(finished_run, cache_dir, tmp_path):
    command = [sys.executable, "-m", "pipeline.launch.reproduce", finished_run / "run"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "EULER_CACHE": str(cache_dir)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("losses ") for line in process.stdout)
        assert [path.name[:16] for path in tmp_path.iterdir()] == ["euler-reproduce-"]
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []


def test_records_that_are_damaged_are_named(copied, ask):
    (copied.run / "losses.jsonl").write_text('{"step": 1, "loss": ["0x1p+0"]}\n{"step": 3')
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "losses.jsonl: damaged in line 2" in said
    (copied.run / "data.jsonl").write_text("[]\n")
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "data.jsonl: damaged" in said
    (copied.run / "provenance.json").write_text("{")
    code, said = ask(copied.run, "--data", copied.audio)
    assert code == 1 and "provenance.json: damaged" in said

"""Runs that somebody has moved, edited or damaged between two starts."""

import shutil

import pytest

from pipeline.errors import ConfigError
from pipeline.launch import resume
from pipeline.launch.same_command import find_run
from tests.launch.begun import SMALL, begin, given_to, wanted
from tests.launch.test_resume import found, grow_old


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EULER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def test_hydras_records_are_no_run():
    run = begin(*SMALL)
    assert resume.locate(run) == run
    for folder in (".hydra", "records"):
        if folder == "records":
            shutil.copytree(run / ".hydra", run / folder)
        with pytest.raises(
            ConfigError, match=f"run.resume={run / folder}: .*holds no provenance.json; valid: "
        ):
            resume.locate(run / folder)


def test_a_path_that_cannot_be_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="run.resume=.*x: File name too long; valid: "):
        resume.locate(tmp_path / ("x" * 300))
    with pytest.raises(ConfigError, match="trainer.trainer.ckpt_dir=.*x: File name too long; valid: "):
        wanted(f"trainer.trainer.ckpt_dir={tmp_path / ('x' * 300)}")


@pytest.mark.parametrize("place", [".", "deep/kept", "deep/kept/last.ckpt"])
@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_moved_run_takes_the_checkpoints_in_it_along(place, how, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    begin(*SMALL, f"run.dir={here}", f"trainer.trainer.ckpt_dir={here / 'deep' / 'kept'}")
    (here / "deep" / "kept" / "last.ckpt").touch()
    assert resume.locate(here / place) == here
    how(here, there)
    assert resume.locate(there / place) == there
    assert resume.load(there).trainer.trainer.ckpt_dir == str(there / "deep" / "kept")


def test_a_copied_run_with_checkpoints_elsewhere_is_refused(tmp_path):
    run = begin(*SMALL, f"trainer.trainer.ckpt_dir={tmp_path / 'kept'}")
    copy = shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(ConfigError, match=f"a copy of {run}, whose checkpoints are in"):
        resume.load(copy)


def test_an_edited_config_is_announced_with_its_keys(caplog):
    run = begin(*SMALL)
    with caplog.at_level("INFO"):
        given_to(run)
    assert not caplog.messages
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("  seed: 5", "  seed: 6"))
    with caplog.at_level("INFO"):
        given_to(run)
    note = f"note: {config} was edited since the run began"
    assert caplog.messages == [f"{note}: trainer.seed"]
    shutil.rmtree(run / ".hydra")
    with caplog.at_level("INFO"):
        given_to(run)
    assert caplog.messages[-1] == note
    (run / "provenance.json").write_text("{}")  # of a version that kept no checksum
    caplog.clear()
    given_to(run)
    assert not caplog.messages


BROKEN = {
    "a list": b"[1, 2]",
    "no YAML": b"trainer: [",
    "bytes": b"\xff\xfe\x00\x81",
    "a key of another version": b"trainer.trainer.no_such: 3",
    "a key below a value": b"trainer.seed.deeper: 3",
    "a wrong value": b"trainer.trainer.max_steps: many",
}


def test_broken_changes_are_named_and_passed_over_by_auto(caplog):
    older, run = begin(*SMALL), begin(*SMALL)
    grow_old(older, 60)
    config = wanted(*SMALL)[0]
    assert find_run(config, None) == run
    for how, content in BROKEN.items():
        (run / "changes.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=f"^{run / 'changes.yaml'}: "):
            resume.change(run, config, None)
        caplog.clear()
        with caplog.at_level("INFO"):
            assert find_run(config, None) == older, how
        assert f"note: run.resume=auto: passes over {run}, which cannot be continued: " in caplog.text


def test_a_config_of_random_bytes_is_named_and_passed_over_by_auto():
    older, run = begin(*SMALL), begin(*SMALL)
    grow_old(older, 60)
    (run / "config.yaml").write_bytes(b"\xff\xfe\x00\x81" * 50)
    with pytest.raises(ConfigError, match=f"^{run / 'config.yaml'}: cannot be read"):
        resume.load(run)
    assert found(*SMALL) == older


def test_a_folder_of_audio_is_a_place_and_yet_tells_commands_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    command = (*SMALL, "data=folder")
    run = begin(*command, f"data.root={tmp_path / 'one'}")
    config, changes = given_to(run, f"data.root={tmp_path / 'two'}")
    assert config.data.root == str(tmp_path / "two") and list(changes) == ["data.root"]
    assert found(*command, f"data.root={tmp_path / 'one'}") == run
    assert found(*command, f"data.root={tmp_path / 'two'}") is None


def test_the_cache_is_that_of_this_machine(tmp_path, monkeypatch):
    run = begin(*SMALL)
    assert resume.load(run).data.cache_dir == str(tmp_path / "cache")
    monkeypatch.delenv("EULER_CACHE")
    assert given_to(run)[1] == {}, "a default is no wish"
    given = given_to(run, f"data.cache_dir={tmp_path / 'given'}")[0]
    assert given.data.cache_dir == str(tmp_path / "given")
    monkeypatch.setenv("EULER_CACHE", str(tmp_path / "other"))
    assert given_to(run)[0].data.cache_dir == str(tmp_path / "other")
    assert found(*SMALL) == run

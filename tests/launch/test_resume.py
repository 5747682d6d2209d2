"""Which run is continued, and what may change in it."""

import contextlib
import fcntl
import os
import shutil

import pytest

from pipeline.config.compose import read, settle
from pipeline.errors import CheckpointError, ConfigError
from pipeline.launch import directory, lock, preflight, resume
from pipeline.launch.same_command import find_run
from tests.config.compositions import compose
from tests.launch.begun import SMALL, begin, given_to, wanted


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EULER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def grow_old(run, seconds):
    """Make a run look as if it had begun earlier."""
    stat = (run / "config.yaml").stat()
    os.utime(run / "config.yaml", (stat.st_atime - seconds, stat.st_mtime - seconds))


def found(*arguments):
    return find_run(wanted(*arguments)[0], None)


def test_the_same_command_finds_its_run(caplog):
    assert found(*SMALL) is None
    run = begin(*SMALL)
    caplog.clear()
    with caplog.at_level("INFO"):
        assert found(*SMALL, "run.resume=auto") == run
    assert caplog.messages == [f"run.resume=auto: goes on with the run in {run}"]


def test_changes_that_leave_it_the_same_run_find_it_too():
    run = begin(*SMALL)
    assert found("trainer.seed=5", "trainer.num_gpus=0", "trainer.trainer.max_time=00:01:00:00") == run
    assert found(*SMALL, "trainer.global_batch_size=32", "trainer.trainer.accumulate_grad_batches=2") == run


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("trainer.seed=6", "trainer.seed"),
        ("model=SEANet_real_small", "model.encoder.config.complex_valued"),
        ("run.init_from={runs}", "run.init_from"),
        ("trainer.optimizer.type=SGD", "trainer.optimizer.type"),
    ],
)
def test_another_run_is_not_taken_for_it(change, key, runs, caplog):
    begin(*SMALL)
    with caplog.at_level("INFO"):
        assert found(*SMALL, change.format(runs=runs)) is None
    assert f"differs in {key}), begins one" in caplog.text


def test_the_newest_is_taken_in_which_nobody_trains():
    older, newest = begin(*SMALL), begin(*SMALL)
    grow_old(older, 60)
    assert found(*SMALL) == newest
    with (newest / ".lock").open("a") as file:
        file.write(f"process {os.getpid()} elsewhere\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert found(*SMALL) == older
    (newest / "config.yaml").write_text("data: [")
    assert found(*SMALL) == older


def test_a_chosen_directory_is_the_run_if_it_holds_one(tmp_path, caplog):
    chosen = (*SMALL, f"run.dir={tmp_path / 'here'}")
    with caplog.at_level("INFO"):
        assert found(*chosen) is None
        assert "no run in" in caplog.text
        assert begin(*chosen) == tmp_path / "here" == found(*chosen)
        assert found(*chosen, "trainer.seed=6") == tmp_path / "here", (
            "its difference is refused when it is applied"
        )
    config, composition = wanted(*SMALL)
    assert find_run(config, tmp_path / "here") == tmp_path / "here", "the directory of a sweep's job"


def test_all_that_the_same_command_changes_is_applied_and_shown(caplog):
    run = begin(*SMALL)
    config, _ = wanted("trainer.seed=5", "trainer.num_gpus=0", "trainer.trainer.max_steps=9")
    with caplog.at_level("INFO"):
        changed, changes = resume.change(run, config, None)
    assert changed.trainer.trainer.max_steps == 9 and changes == {"trainer.trainer.max_steps": 9}
    assert caplog.messages == ["resume: trainer.trainer.max_steps was 3, now 9"]
    with pytest.raises(ConfigError, match="trainer.seed: cannot change .*it is 5, asked for 6"):
        resume.change(run, wanted(*SMALL, "trainer.seed=6")[0], None)


def test_a_named_run_takes_what_was_given_and_keeps_the_rest():
    run = begin(*SMALL)
    config, changes = given_to(
        run, "trainer.seed=5", "trainer.trainer.max_time.hours=2", "trainer.num_processes=2"
    )
    assert changes == {"trainer.num_processes": 2, "trainer.trainer.max_time": {"hours": 2}}
    assert config.trainer.trainer.max_steps == 3
    with resume.remembering(run, run / "checkpoints", changes):
        pass
    assert resume.load(run).trainer.trainer.max_time == {"hours": 2}
    assert read(run / "config.yaml").trainer.trainer.max_time is None


@pytest.mark.parametrize(
    "given",
    ["trainer.seed=6", "model=SEANet_real_small", "run.name=other", "run.dir=/elsewhere", "run.init_from=/x"],
)
def test_a_named_run_refuses_what_would_make_it_another(given):
    run = begin(*SMALL)
    with pytest.raises(ConfigError, match=f"{given.split('=')[0]}.*: cannot change in run.resume={run}"):
        given_to(run, given)


def test_what_stands_for_a_run(tmp_path):
    run = begin(*SMALL)
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.touch()
    assert resume.locate(run) == resume.locate(checkpoint) == run
    kept = tmp_path / "kept"
    elsewhere = begin(*SMALL, f"trainer.trainer.ckpt_dir={kept}")
    (kept / "last.ckpt").touch()
    assert resume.locate(kept / "last.ckpt") == elsewhere
    shutil.rmtree(elsewhere)
    with pytest.raises(ConfigError, match=f"{elsewhere} holds no config.yaml"):
        resume.locate(kept / "last.ckpt")


@pytest.mark.parametrize("name", ["step-00000010.ckpt", "best.ckpt", "previous.ckpt"])
def test_a_run_goes_on_from_its_newest_checkpoint_only(name):
    checkpoint = begin(*SMALL) / "checkpoints" / name
    checkpoint.touch()
    with pytest.raises(ConfigError, match=f"newest checkpoint .*run.init_from={checkpoint} starts a new run"):
        resume.locate(checkpoint)


def leave(run, changes, *, error=None, saves=False):
    """A start with changes that ends with an error, after it has saved or before."""
    newest = run / "checkpoints" / "last.ckpt"
    with contextlib.suppress(*([type(error)] if error else [])):
        with resume.remembering(run, newest.parent, changes):
            if saves:
                unfinished = newest.with_name(".last.ckpt.tmp")
                unfinished.touch()
                unfinished.replace(newest)
            if error:
                raise error


@pytest.mark.parametrize("existed", [False, True])
def test_changes_that_came_to_nothing_are_forgotten(existed):
    run = begin(*SMALL)
    if existed:
        (run / "checkpoints" / "last.ckpt").touch()

    def steps():
        return resume.load(run).trainer.trainer.max_steps

    key = "trainer.trainer.max_steps"
    leave(run, {key: 4}, error=CheckpointError("refused"))
    assert steps() == 3 and not (run / "changes.yaml").exists()
    leave(run, {key: 4}, error=SystemExit(75))
    leave(run, {key: 5}, error=SystemExit(1))
    assert steps() == 4
    leave(run, {key: 6})
    leave(run, {key: 7}, error=CheckpointError("refused"))
    assert steps() == 6
    leave(run, {key: 8}, error=CheckpointError("later"), saves=True)
    assert steps() == 8


@pytest.mark.parametrize("place", ["missing", "file", "folder", "missing/last.ckpt", "folder/last.ckpt"])
def test_what_is_no_run_is_refused_in_a_sentence(place, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "last.ckpt").touch()
    with pytest.raises(ConfigError, match=f"run.resume={tmp_path / place}: .* holds no config.yaml; valid: "):
        resume.locate(tmp_path / place)


def test_resume_is_a_word_or_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = {
        word: settle(compose(f"run.resume={word}")).run.resume for word in ("never", "auto", "null", "here")
    }
    assert said == {"never": "never", "auto": "auto", "null": "never", "here": str(tmp_path / "here")}


def test_a_run_that_was_killed_before_it_came_to_be_blocks_nothing(tmp_path):
    kept, chosen = tmp_path / "kept", tmp_path / "chosen"
    places = (*SMALL, f"run.dir={chosen}", f"trainer.trainer.ckpt_dir={kept}")
    config, composition = wanted(*places)
    config = directory.claim(config, None)
    directory.write_records(config, composition)
    (chosen / "config.yaml").rename(chosen / ".config.yaml.tmp")
    assert begin(*places) == chosen
    with pytest.raises(ConfigError, match="already holds a run"):
        directory.write_records(config, composition)
    with pytest.raises(ConfigError, match="two runs never share one"):
        begin(*SMALL, f"trainer.trainer.ckpt_dir={kept}")


def test_of_two_runs_that_claim_one_checkpoint_folder_at_one_instant_one_begins(tmp_path):
    both = []
    for name in ("one", "two"):
        places = (f"run.dir={tmp_path / name}", f"trainer.trainer.ckpt_dir={tmp_path / 'kept'}")
        config, composition = wanted(*SMALL, *places)
        both.append((directory.claim(config, None), composition))
    with lock.hold(tmp_path / "kept"), pytest.raises(ConfigError, match="ckpt_dir=.*is being begun there"):
        directory.write_records(*both[0])
    directory.write_records(*both[0])
    with pytest.raises(
        ConfigError, match=f"holds the checkpoints of {tmp_path / 'one'}; two runs never share"
    ):
        directory.write_records(*both[1])
    assert not (tmp_path / "two" / "config.yaml").exists()


def test_a_minimum_is_announced_to_have_no_effect():
    composition = compose("trainer.trainer.min_epochs=3", "trainer.trainer.min_steps=2")
    notes = preflight.check(settle(composition), composition.given).notes
    assert [note for note in notes if "trainer.trainer.min_" in note] == [
        f"trainer.trainer.{least} has no effect: nothing ends training before max_epochs, max_steps"
        for least in ("min_epochs=3", "min_steps=2")
    ]

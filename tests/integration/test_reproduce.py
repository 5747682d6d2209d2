"""`make reproduce`: a run that is the same says so, and the first thing that is not is named."""

import json
import logging
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from pipeline.launch import image, reproduce
from pipeline.launch.lock import hold
from pipeline.launch.surroundings import LOCK_STAMP
from tests.integration.background import Background
from tests.integration.runs import TINY

FILES = ("a.wav", "b.wav", "c.wav", "d.wav")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, preloaded, cache_dir):
    """A run of four steps on four files of noise, on one thread."""
    place = tmp_path_factory.mktemp("reproduce")
    (place / "audio").mkdir()
    for number, name in enumerate(FILES):
        noise = np.random.default_rng(number).normal(0, 0.1, 44100)
        soundfile.write(place / "audio" / name, noise, 44100)
    words = ("trainer.trainer.max_steps=4", "data=folder", f"data.root={place / 'audio'}")
    run = Background(preloaded, place, cache_dir, *TINY, *words, f"run.dir={place / 'run'}").end()
    assert run.code == 0, run.output
    return place


@pytest.fixture
def copied(finished, tmp_path):
    """Another copy of the run and its audio, to be changed."""
    place = tmp_path / "copied"
    shutil.copytree(finished, place)
    return SimpleNamespace(place=place, run=place / "run", audio=place / "audio")


@pytest.fixture
def ask(monkeypatch, capsys, cache_dir):
    """Ask whether a run is the same; gives the exit code and what was said."""
    logger = logging.getLogger("pipeline")
    before = (logger.handlers[:], logger.propagate, logger.level)
    monkeypatch.setenv("EULER_CACHE", str(cache_dir))

    def reproduced(run, *arguments):
        monkeypatch.setattr("sys.argv", ["reproduce", str(run), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            reproduce.main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    yield reproduced
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def record(run, **changes):
    """Have the run say that it was made of something else."""
    path = run / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def recorded(run, key):
    return json.loads((run / "provenance.json").read_text())[key]


def forget_losses(run):
    """All checks are made, and nothing is trained."""
    (run / "losses.jsonl").unlink()


def state_of(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in (folder, *folder.rglob("*"))
    }


def test_the_same_run_is_identical_and_left_alone(finished, ask, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = state_of(finished)
    code, said = ask(finished / "run")
    assert code == 0, said
    assert "identical  4 steps" in said and "4 steps are recorded" in said
    assert state_of(finished) == before and list(tmp_path.iterdir()) == []


def test_what_a_run_records_is_whole(finished):
    facts = json.loads((finished / "run" / "provenance.json").read_text())
    assert facts["data"]["files"] == 4 and facts["data"]["train_root"] == str(finished / "audio")
    assert facts["packages"]["numpy"] and facts["git"]["code_sha256"]
    assert facts["hardware"]["driver"] is None or facts["hardware"]["gpus"]
    (attempt,) = facts["attempts"]
    assert attempt["step"] == 0 and attempt["torch_threads"] == 1 and attempt["changes"] == {}
    losses = [json.loads(line) for line in (finished / "run" / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    with (finished / "run" / "metrics.csv").open() as file:
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
    assert str(copied.audio) in output and "losses" not in output


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


HORIZON = (  # rates that follow from the horizon, and a validation within the first steps
    *TINY,
    "trainer.trainer.max_steps=24",
    "data.train_dataset.segments_per_epoch=16",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.scheduler.type=CosineAnnealingLR",
    "trainer.scheduler.config={T_max: 24}",
    "trainer.trainer.save_every_n_epochs=1",
)
TWO = ("trainer.num_gpus=0", "trainer.num_processes=2")
SHAPES = {
    "two processes": TWO,
    "accumulation": ("trainer.trainer.accumulate_grad_batches=2",),
    "DeepSpeed": (*TWO, "trainer.strategy=deepspeed"),
}


@pytest.mark.long
@pytest.mark.parametrize("words", SHAPES.values(), ids=SHAPES)
def test_every_shape_of_a_run_is_repeated(train, ask, words):
    run = train(*HORIZON, *words)
    assert run.code == 0, run.output
    code, said = ask(run.directory, "--steps", 6)
    assert code == 0 and "identical  6 steps" in said, said


@pytest.mark.long
def test_a_run_that_was_killed_and_resumed_is_identical(tmp_path, preloaded, cache_dir, train, ask):
    """Each step is recorded once, with the losses of the run that was never interrupted."""
    whole = train(*HORIZON, name="whole")
    killed = Background(preloaded, tmp_path, cache_dir, *HORIZON, "trainer.trainer.max_steps=100000")
    killed.wait_for(lambda run: any(path.stat().st_size for path in run.runs.rglob("last.ckpt")))
    killed.send("SIGKILL")
    run_dir = killed.end().directory
    words = (f"run.resume={run_dir}", "trainer.trainer.max_steps=24")
    assert train(*words, name="again").code == 0
    assert (run_dir / "losses.jsonl").read_bytes() == (whole.directory / "losses.jsonl").read_bytes()
    assert [attempt["step"] > 0 for attempt in recorded(run_dir, "attempts")] == [False, True]
    code, said = ask(run_dir)
    assert code == 0 and "identical  20 steps" in said, said


@pytest.mark.long
def test_what_a_run_went_on_with_ends_the_comparison(train, ask):
    run = train(*HORIZON, "trainer.trainer.max_steps=4")
    words = (
        f"run.resume={run.directory}",
        "trainer.trainer.max_steps=8",
        *TWO,
        "data.train_dataloader.batch_size=2",
    )
    assert train(*words, name="again").code == 0
    code, said = ask(run.directory)
    assert code == 0 and "identical  4 steps" in said, said
    assert "after step 4 the run went on with another number of processes, batch size" in said


@pytest.mark.long
def test_another_seed_gives_another_loss(copied, ask):
    edit(copied.run / "config.yaml", "seed: 94", "seed: 95")
    code, said = ask(copied.run, "--data", copied.audio, "--ignore", "config")
    assert code == 1 and "different  losses: step 1: the loss was " in said


@pytest.mark.long
def test_the_weights_that_a_run_began_with_are_checked(train, ask, copied):
    run = train(*TINY, f"run.init_from={copied.run}")
    code, said = ask(run.directory)
    assert code == 0 and f"start      same: the weights of {copied.run}" in said, said
    weights = copied.run / "checkpoints" / "best.ckpt"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, said = ask(run.directory)
    assert code == 1 and f"different  start: {weights}: not the weights" in said
    shutil.rmtree(copied.run)
    code, said = ask(run.directory)
    assert code == 1 and f"different  start: {weights}: the weights that the run began with are gone" in said

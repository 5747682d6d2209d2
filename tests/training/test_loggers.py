"""Logs of a run that was killed and resumed: as if nothing had happened."""

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import TrainingError
from pipeline.training.callbacks.demos import draw_comparison, write_sound
from pipeline.training.loggers import build_loggers, close_loggers, mark_logs, wandb_sync_command
from pipeline.training.logs.base import RunLog
from pipeline.training.logs.wandb_segments import read_records, segments
from pipeline.training.ranks.agreement import StopRequested
from tests.architecture.source_tree import ROOT
from tests.training.logged_run import log_step, logged_run
from tests.training.read_logs import events, open_files, wandb_rows

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.training.logged_run"])  # all libraries are loaded once


def start(run_dir, *numbers):
    process = FORKS.Process(target=logged_run, args=(run_dir, *numbers))
    process.start()
    process.join(timeout=120)
    return process.exitcode


def contents(run_dir):
    """All that was logged, without times."""
    return (run_dir / "metrics.csv").read_bytes(), events(run_dir / "tensorboard"), wandb_rows(run_dir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert start(run_dir, 20) == 0
    return contents(run_dir)


def test_an_uninterrupted_run(whole):
    text, points, rows = whole
    assert len(text.splitlines()) == 21 and len(rows) == 28
    assert [point[:2] for point in points if point[0] != "epoch"][4:7] == [
        ("demo/sound", 5),
        ("demo/picture", 5),
        ("train/loss", 5),
    ]
    assert [row["_step"] for row in rows] == list(range(28))


# A kill at once finds wandb's segment empty, one after two seconds finds it written.
@pytest.mark.parametrize("seconds", [2, pytest.param(0, marks=pytest.mark.long)])
def test_a_killed_run_continues_its_logs(tmp_path, whole, seconds):
    run_dir = tmp_path / "run"
    assert start(run_dir, 20, 8, 11, seconds) == -signal.SIGKILL
    assert start(run_dir, 20, 15, 16, 0) == -signal.SIGKILL
    assert contents(run_dir) != whole
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(run_dir, copy, symlinks=True)
    shutil.rmtree(run_dir)
    assert start(copy, 20) == 0
    assert contents(copy) == whole
    named = wandb_sync_command(copy).split()[2:]
    assert named == sorted(str(path) for path in (copy / "wandb").glob("offline-run-*"))
    assert len({path.rsplit("-", 1)[1] for path in named}) == 1, "one run"


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path, whole):
    assert start(tmp_path / "run", 20, 0, 7, 2) == -signal.SIGKILL
    assert start(tmp_path / "run", 20) == 0
    assert contents(tmp_path / "run") == whole


def test_rows_that_are_not_repeated_stand_beside_the_new_ones(tmp_path):
    """A finished run had a validation at its end that the longer one does not repeat."""
    run_dir = tmp_path / "run"
    assert start(run_dir, 9, 8) == 0
    assert start(run_dir, 10, 0, 10, 2, 10) == -signal.SIGKILL  # nothing at step 9, and no new checkpoint
    assert start(run_dir, 12, 0, 0, 0, 10) == 0
    steps = [row["trainer/global_step"] for row in wandb_rows(run_dir) if "train/loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_uploaded_segments_may_be_cleared_away(tmp_path):
    run_dir = tmp_path / "run"
    assert start(run_dir, 9, 8) == 0
    for path in (run_dir / "wandb").glob("offline-run-*"):
        shutil.rmtree(path)
    assert start(run_dir, 12) == 0
    rows = [row for row in wandb_rows(run_dir) if "train/loss" in row]
    assert [row["trainer/global_step"] for row in rows] == [10, 11, 12]
    assert rows[0]["_step"] == 13, "nine rows and two sounds and pictures come before it"


def test_nothing_of_wandb_outlives_a_killed_run(tmp_path):
    assert start(tmp_path / "run", 20, 8, 11, 0) == -signal.SIGKILL
    assert open_files(tmp_path / "run", within_s=30) == []


def log(run_dir, names, mark, resumed_step, last_step):
    loggers = build_loggers(names, run_dir, ["train/loss"], "project", "name", {}, mark, resumed_step)
    for step in range((resumed_step or 0) + 1, last_step + 1):
        log_step(loggers, run_dir, step)
    return loggers


FILES = ("csv", "tensorboard")


def test_a_logger_that_paused_for_a_start(tmp_path):
    log(tmp_path, FILES, None, None, 8)  # its newest checkpoint: step 5
    mark = mark_logs(log(tmp_path, ["csv"], None, 5, 10))
    assert "tensorboard" not in mark
    log(tmp_path, FILES, json.loads(json.dumps(mark)), 10, 12)
    steps = [step for tag, step, _ in events(tmp_path / "tensorboard") if tag == "train/loss"]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 13))


def test_a_row_at_the_checkpoints_step_may_come_before_or_after_it(tmp_path):
    loggers = log(tmp_path, FILES, None, None, 3)
    mark = mark_logs(loggers)
    for logger in loggers:
        logger.log_metrics({"train/loss": 0.5, "epoch": 0}, step=3)
    after = mark_logs(loggers)
    log(tmp_path, FILES, after, 3, 3)
    assert len(events(tmp_path / "tensorboard")) == 8
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 5
    log(tmp_path, FILES, mark, 3, 3)
    assert len(events(tmp_path / "tensorboard")) == 6
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4


def test_a_running_tensorboard_shows_one_curve(tmp_path):
    loggers = log(tmp_path, ["tensorboard"], None, None, 5)
    mark = mark_logs(loggers)
    for step in (6, 7, 8):
        log_step(loggers, tmp_path, step)
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    assert [point.step for point in board.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6, 7, 8]
    log(tmp_path, ["tensorboard"], mark, 5, 7)
    board.Reload()
    assert [point.step for point in board.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", ["csv", "tensorboard", "wandb"])
def test_a_full_disk_is_named(tmp_path, name):
    loggers = log(tmp_path, [name], None, None, 2)
    files = {"csv": "metrics.csv", "tensorboard": "tensorboard/events.*", "wandb": "wandb/rows.jsonl"}
    (path,) = tmp_path.glob(files[name])
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(
        TrainingError, match=rf"{path}: cannot be written \(No space left on device\); make room"
    ):
        log_step(loggers, tmp_path, 3)
    path.unlink()
    close_loggers(loggers)


def test_a_full_disk_is_named_by_a_demonstration(tmp_path):
    sound, picture = tmp_path / "sound.wav", tmp_path / "picture.png"
    for path in (sound, picture):
        path.symlink_to("/dev/full")
    message = r"cannot be written \(No space left on device\); make room"
    with pytest.raises(TrainingError, match=f"{sound}: {message}"):
        write_sound(sound, np.zeros((8, 2)), 8000)
    spectrum = torch.ones(3, 4, dtype=torch.complex64)
    with pytest.raises(TrainingError, match=f"{picture}: {message}"):
        draw_comparison(spectrum, spectrum, 8000, picture)


# A run whose job a scheduler ends by a signal to every process: wandb's own is the first to go.
ENDED_WITH_ALL = """
import json, logging, os, re, signal, sys, time
from pathlib import Path
from pipeline.training.ranks.agreement import StopRequested
from pipeline.training.loggers import build_loggers, close_loggers, mark_logs
from tests.training.logged_run import NAMES, log_step
def running():
    "Processes that this one has started and that have not ended."
    texts = [path.read_text() for path in Path("/proc").glob("[0-9]*/status")]
    return [int(re.search(r"^Pid:.(.*)$", text, re.M)[1]) for text in texts
            if f"PPid:\\t{os.getpid()}\\n" in text and "State:\\tZ" not in text]
logging.basicConfig(level=logging.WARNING, format="%(message)s")
run_dir, number = Path(sys.argv[1]), signal.Signals[sys.argv[2]]
run_dir.mkdir()
loggers = build_loggers(NAMES, run_dir, ["train/loss"], "project", "name", {}, None, None)
try:
    for step in range(1, 12):
        log_step(loggers, run_dir, step)
        if step == 8:
            for process in running():
                os.kill(process, number)
            while running():
                time.sleep(0.05)
    (run_dir / "checkpoint.json").write_text(json.dumps([mark_logs(loggers), 11]))
    raise StopRequested("SIGTERM")
except StopRequested:
    sys.exit(75)
finally:
    close_loggers(loggers)
"""


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.long)])
def test_a_run_outlives_the_process_of_wandb(tmp_path, whole, name):
    run_dir = tmp_path / "run"
    command = [sys.executable, "-c", ENDED_WITH_ALL, str(run_dir), name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 75, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("the process of Weights & Biases has ended") == 1
    assert start(run_dir, 20) == 0
    assert contents(run_dir) == whole


def end_code(run_dir, error):
    """The exit code that Weights & Biases is told of a run that such an error leaves."""
    loggers = log(run_dir, ["wandb"], None, None, 2)
    try:
        if error is not None:
            for logger in loggers:
                logger.finalize("failed")  # as Lightning does for every error, a request to stop included
            raise error
    except StopRequested:
        sys.exit(75)
    finally:
        close_loggers(loggers)
        (path,) = segments(run_dir / "wandb")
        (code,) = [record.exit.exit_code for _, record in read_records(path) if record.HasField("exit")]
        (run_dir / "code").write_text(str(code))


@pytest.mark.parametrize(
    ("error", "leaves", "code"),
    [
        (None, None, "0"),
        (StopRequested("SIGTERM"), SystemExit, "0"),
        (TrainingError("diverged"), TrainingError, "1"),
        (SystemExit(1), SystemExit, "1"),
    ],
    ids=["finished", "to be resumed", "failed", "ended"],
)
def test_only_a_failed_run_is_marked_as_failed(tmp_path, error, leaves, code):
    if leaves is None:
        end_code(tmp_path, error)
    else:
        with pytest.raises(leaves):
            end_code(tmp_path, error)
    assert (tmp_path / "code").read_text() == code


class LogOnFullDisk(RunLog):
    """A log that cannot be closed."""

    name = "full"

    def mark(self):
        return {}

    def log_metrics(self, metrics, step=None):
        """Take nothing."""

    def close(self, failed):
        with open("/dev/full", "w") as file:
            file.write("end")


def test_a_log_that_cannot_be_closed_leaves_the_exit_code_and_the_other_logs(tmp_path, caplog):
    loggers = [LogOnFullDisk(), *log(tmp_path, ["wandb"], None, None, 2)]
    with pytest.raises(SystemExit, match="75"):
        try:
            sys.exit(75)
        finally:
            close_loggers(loggers)
    assert "the log full was not closed" in caplog.text
    (path,) = segments(tmp_path / "wandb")
    assert any(record.HasField("exit") for _, record in read_records(path)), "closed"

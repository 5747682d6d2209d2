"""The lock of a run directory, held and lost by real processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from pipeline.errors import LaunchError
from pipeline.launch import lock
from tests.architecture.source_tree import ROOT

# Holds the lock, hands it to a child that sleeps, says the child's process id, and waits.
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from pipeline.launch import lock
with lock.hold(Path(sys.argv[1])) as descriptor:
    child = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=(descriptor,))
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a holder whose child sleeps so many seconds; gives both processes."""
    started = []

    def start(child_s):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), str(child_s)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        child = int(process.stdout.readline())
        started.append((process, child))
        return process, child

    yield start
    for process, child in started:
        process.kill()
        process.wait()
        process.stdout.close()
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_living_owner_is_named_at_once(tmp_path, holder):
    process, _ = holder(60)
    with pytest.raises(LaunchError, match=f"another process trains .*process {process.pid} on"):
        with lock.hold(tmp_path):
            pass
    assert f"process {process.pid} on" in lock.living_owner(tmp_path)


def test_a_killed_owner_is_waited_for_while_its_processes_end(tmp_path, holder, caplog):
    process, child = holder(3)
    process.kill()
    process.wait()
    assert os.path.exists(f"/proc/{child}"), "the child still has the lock"
    assert lock.living_owner(tmp_path) is None
    with caplog.at_level("INFO", logger="pipeline.launch.lock"), lock.hold(tmp_path):
        pass
    (line,) = caplog.messages
    assert "has ended; waiting for the last of its processes" in line


def test_a_living_owner_is_waited_for_as_long_as_asked(tmp_path, holder, caplog):
    """The attempt of a job that is ending on another node."""
    process, child = holder(60)
    with pytest.raises(LaunchError, match=f"another process trains .*process {process.pid} on"):
        with lock.hold(tmp_path, 0.5):
            pass
    soon = threading.Timer(0.5, lambda: [os.kill(one, signal.SIGKILL) for one in (child, process.pid)])
    soon.start()
    caplog.clear()
    with caplog.at_level("INFO", logger="pipeline.launch.lock"), lock.hold(tmp_path, 60.0):
        pass
    soon.join()
    assert "trains here; waiting for its end for at most 60 s" in caplog.messages[0]


def test_an_orphan_that_does_not_end_keeps_the_directory(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock, "_ORPHANS_S", 0.5)
    process, _ = holder(60)
    process.kill()
    process.wait()
    with pytest.raises(LaunchError, match="another process trains"):
        with lock.hold(tmp_path):
            pass


def test_a_process_id_that_was_given_again_is_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_ORPHANS_S", 0.0)
    with lock.hold(tmp_path):
        record = (tmp_path / ".lock").read_text()
        assert lock.living_owner(tmp_path) == record.strip()
        start = int(record.rpartition("(start ")[2].rstrip(")\n"))
        (tmp_path / ".lock").write_text(record.replace(f"(start {start})", f"(start {start - 1})"))
        assert lock.living_owner(tmp_path) is None


def test_a_lock_that_was_given_back_names_nobody(tmp_path):
    with lock.hold(tmp_path):
        assert (tmp_path / ".lock").read_text()
    assert not (tmp_path / ".lock").read_text() and lock.living_owner(tmp_path) is None
    with lock.hold(tmp_path):
        pass


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.hold(tmp_path):
        pass
    (line,) = caplog.messages
    assert "has no locks" in line


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(LaunchError, match="run.dir=.*gone.*cannot be written"):
        with lock.hold(tmp_path / "gone"):
            pass

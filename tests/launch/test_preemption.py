"""What a signal does, in processes that signal themselves."""

import signal
import subprocess
import sys

import pytest

from tests.architecture.source_tree import ROOT

START = """
import os, signal, sys, time
from pathlib import Path
from pipeline.launch.preemption import stop_signals
stop_signals.install()
def send(name):
    os.kill(os.getpid(), signal.Signals[name])
"""


def run(program):
    return subprocess.run(
        [sys.executable, "-c", START + program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_before_training_a_signal_ends_the_process_at_once(name):
    ended = run(f"send('{name}')\nsys.stdout.write('went on')")
    assert ended.returncode == 75 and "went on" not in ended.stdout
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"stopped by {name} before training began") and "the same command" in line


def test_a_run_that_has_a_directory_is_named():
    ended = run("stop_signals.name_run(Path('/runs/a b'))\nsend('SIGTERM')")
    assert ended.returncode == 75 and "python train.py 'run.resume=/runs/a b'" in ended.stderr


def test_an_exit_that_was_swallowed_comes_before_training():
    ended = run(
        "try:\n    send('SIGTERM')\nexcept SystemExit:\n    sys.stdout.write('swallowed')\n"
        "send('SIGTERM')\nstop_signals.begin_training()\nsys.stdout.write('trained')"
    )
    assert ended.returncode == 75 and ended.stdout == "swallowed"


def test_an_exit_that_became_an_error_on_its_way_is_an_exit():
    """As in a library that tidies half-made objects up."""
    error = "try:\n    with plain_errors():\n        try:\n            {}\n        finally:\n            raise {}\n"
    start = "from pipeline.launch.report import plain_errors\nfrom pipeline.errors import ConfigError\n"
    for raised in ("AttributeError('half made')", "ConfigError('half read')", "SystemExit(1)"):
        program = f"{start}{error}finally:\n    sys.stdout.write('tidied')"
        ended = run(program.format("send('SIGTERM')", raised))
        assert (ended.returncode, ended.stdout) == (75, "tidied")
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert run(program.format("pass", raised)).returncode == 1
        assert run(program.format("stop_signals.begin_training(); send('SIGTERM')", raised)).returncode == 1


def test_in_training_a_signal_sets_a_flag_and_is_told_once():
    ended = run(
        "stop_signals.begin_training()\nassert stop_signals.received is None\nsend('SIGUSR1')\nsend('SIGTERM')\n"
        "send('SIGTERM')\nsend('SIGINT')\nsys.stdout.write(stop_signals.received)"
    )
    assert ended.returncode == 0 and ended.stdout == "SIGUSR1"
    (line,) = ended.stderr.splitlines()
    assert line.startswith("SIGUSR1 received: saving after this step")


def test_a_second_interrupt_stops_at_once():
    ended = run(
        "stop_signals.defer('waiting', before_abort=lambda: sys.stderr.write('last words\\n'))\n"
        "send('SIGINT')\ntry:\n    send('SIGINT')\nfinally:\n    sys.stdout.write('cleaned up')"
    )
    assert ended.returncode == 130 and "cleaned up" not in ended.stdout
    assert ended.stderr.splitlines()[-1] == "last words"


def test_handlers_that_a_library_replaced_come_back():
    ended = run(
        "stop_signals.begin_training()\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\nstop_signals.install()\n"
        "send('SIGTERM')\nsys.stdout.write(stop_signals.received)"
    )
    assert (ended.returncode, ended.stdout) == (0, "SIGTERM")


def test_a_fork_leaves_the_decision_to_its_parent():
    ended = run(
        "child = os.fork()\nif child == 0:\n    send('SIGTERM')\n    os._exit(3)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3"
    )
    assert ended.returncode == 0 and not ended.stderr, ended.stderr


def test_a_rank_takes_no_interrupt_and_a_silent_one_says_nothing():
    ended = run(
        "stop_signals.install(quiet=True, supervised=True)\nsend('SIGINT')\nsend('SIGTERM')\n"
        "sys.stdout.write('went on')"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, "", "")


def test_a_supervised_process_announces_nothing_in_training():
    ended = run(
        "stop_signals.install(supervised=True)\nstop_signals.begin_training()\nsend('SIGTERM')\n"
        "sys.stdout.write(stop_signals.received)"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "SIGTERM", "")


def test_the_first_job_began_with_its_process_and_the_next_begins_later():
    ended = run(
        "stop_signals.install(began_s=5.0)\nstop_signals.begin_start_up()\nassert stop_signals.began_s == 5.0\n"
        "before = time.monotonic()\nstop_signals.begin_start_up()\nassert stop_signals.began_s >= before"
    )
    assert ended.returncode == 0, ended.stderr


def test_a_job_in_a_process_of_a_launcher_has_our_handlers_and_begins_now():
    ended = run(
        "child = os.fork()\nif child:\n    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nbefore = time.monotonic()\nstop_signals.begin_start_up()\n"
        "assert stop_signals.began_s >= before\nsend('SIGTERM')"
    )
    assert ended.returncode == 75 and "stopped by SIGTERM" in ended.stderr, ended.stderr


def test_the_jobs_of_a_sweep_start_one_by_one():
    ended = run(
        "stop_signals.begin_training()\nstop_signals.begin_start_up()\nsys.stdout.write('second')\nsend('SIGTERM')\n"
        "sys.stdout.write('went on')"
    )
    assert (ended.returncode, ended.stdout) == (75, "second")
    late = run("stop_signals.begin_training()\nsend('SIGTERM')\nstop_signals.begin_start_up()")
    assert late.returncode == 75


def test_a_signal_does_not_change_the_exit_code_of_a_process_that_ends():
    """The interpreter gives the handlers of others back before it deletes the last objects."""
    kill = "    def __del__(self, kill=os.kill, process=os.getpid()):\n        kill(process, 10)\n"
    last = f"import os\nclass Late:\n{kill}"
    assert run(f"{last}late = Late()\nstop_signals.begin_training()").returncode == 0
    others = f"import signal\nsignal.signal(signal.SIGUSR1, print)\n{last}late = Late()"
    assert subprocess.run([sys.executable, "-c", others], check=False).returncode == -signal.SIGUSR1

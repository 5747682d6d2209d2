"""Watchdogs that hear of each other over real sockets, in threads and in processes that are stopped and killed."""

import logging
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from pipeline.training.watch.line import Line
from pipeline.training.watch.peers import Hub
from pipeline.training.watch.pulse import Place, Stage
from pipeline.training.watch.stragglers import OwnShare
from pipeline.training.watch.watchdog import AwakeClock, Watchdog

PATIENCE_S = 30
TIMEOUT_S, RESERVE_S, INTERVAL_S = 2.0, 1.0, 0.05
ROOT = Path(__file__).resolve().parents[3]


def place(step, stage=Stage.FORWARD, is_bounded=True):
    return Place(step, step, stage, 0, "here", is_bounded)


@pytest.fixture
def store():
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))


class Ranks:
    """Watchdogs in threads of this process; what they would end with is kept."""

    def __init__(self, store, count, timeout_s=TIMEOUT_S):
        self.verdicts, self.ended = {}, threading.Event()
        self.dogs = [
            Watchdog(timeout_s, rank, self._end_of(rank), INTERVAL_S, RESERVE_S) for rank in range(count)
        ]
        for dog in self.dogs:
            dog.watch(store if count > 1 else None, "127.0.0.1")

    def _end_of(self, rank):
        def end(verdict, is_speaker):
            self.verdicts[rank] = (verdict, is_speaker)
            if len(self.verdicts) == len(self.dogs):
                self.ended.set()

        return end

    def train(self, seconds, ranks):
        """Make progress on some ranks; returns early when all have ended."""
        end, step = time.monotonic() + seconds, 0
        while time.monotonic() < end and not self.ended.is_set():
            step += 1
            for rank in ranks:
                self.dogs[rank].at(place(step))
            time.sleep(0.01)


def test_a_rank_that_stands_still_is_named_on_all_ranks_and_one_of_them_speaks(store):
    ranks = Ranks(store, 3)
    ranks.train(0.5, (0, 1, 2))
    for rank in (0, 2):
        ranks.dogs[rank].at(place(1000, Stage.BACKWARD))  # these wait for rank 1
    assert ranks.ended.wait(PATIENCE_S)
    assert [list(ranks.verdicts[rank][0].culprits) for rank in range(3)] == [[1], [1], [1]]
    assert [ranks.verdicts[rank][1] for rank in range(3)] == [True, False, False]


def test_training_that_goes_on_is_left_alone(store):
    ranks = Ranks(store, 2)
    ranks.train(2 * TIMEOUT_S, (0, 1))
    with ranks.dogs[0].unbounded("converting"):
        time.sleep(TIMEOUT_S)
    for dog in ranks.dogs:
        dog.stop()
    assert ranks.verdicts == {}


def test_a_rank_that_has_left_is_not_missed_and_the_rest_goes_on_alone(store):
    ranks = Ranks(store, 2)
    ranks.train(0.3, (0, 1))
    ranks.dogs[0].stop()
    ranks.train(1.5 * TIMEOUT_S, (1,))
    assert ranks.verdicts == {}
    time.sleep(1.5 * TIMEOUT_S)
    assert list(ranks.verdicts) == [1], "it is watched all the same"
    ranks.dogs[1].stop()


def test_a_rank_that_leaves_with_an_error_ends_the_others_as_a_failure(store):
    ranks = Ranks(store, 2, timeout_s=60.0)
    ranks.train(0.3, (0, 1))
    with pytest.raises(ValueError), ranks.dogs[1]:
        raise ValueError
    deadline = time.monotonic() + PATIENCE_S
    while 0 not in ranks.verdicts and time.monotonic() < deadline:
        ranks.train(0.1, (0,))
    verdict, is_speaker = ranks.verdicts[0]
    assert verdict.culprits == (1,) and verdict.is_failure and is_speaker


def test_one_process_is_watched_too():
    ranks = Ranks(None, 1)
    ranks.train(0.3, (0,))
    assert ranks.ended.wait(PATIENCE_S)
    assert "rank 0" in ranks.verdicts[0][0].message


def test_switched_off():
    ranks = Ranks(None, 1, timeout_s=None)
    before = threading.active_count()
    ranks.dogs[0].watch(None, "")
    assert not ranks.dogs[0].is_on and threading.active_count() == before
    ranks.dogs[0].stop()


def test_a_rank_without_a_way_to_the_first_says_so_and_watches_itself(store, caplog):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store.set("watchdog", f'{{"port": {port}, "token": "t", "host": "h"}}')
    dog = Watchdog(60.0, 1, lambda verdict, is_speaker: None)
    logging.getLogger("pipeline").propagate = True
    with caplog.at_level(logging.WARNING):
        dog.watch(store, "127.0.0.1")
    dog.stop()
    assert "cannot reach rank 0 at 127.0.0.1" in caplog.text and "its own rank only" in caplog.text


@pytest.mark.parametrize(
    "word", [b'{"token": "guess", "rank": 1, "host": "h"}\n', b"GET / HTTP/1.0\n\n", b"[1]\n"]
)
def test_a_stranger_is_turned_away(word):
    hub = Hub(1.0, time.monotonic, "token")
    stranger = socket.create_connection(("127.0.0.1", hub.port))
    stranger.sendall(word)
    hub.listen(0.3)
    stranger.settimeout(5)
    assert stranger.recv(1) == b"" and hub.pulses() == []
    hub.leave(False)


def _next(line):
    select.select([line], [], [], PATIENCE_S)
    return line.read()


def test_messages_cross_a_connection_in_any_pieces():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one, other = socket.create_connection(server.getsockname()), server.accept()[0]
    line = Line(other)
    one.sendall(b'{"a": 1}\n{"b"')
    assert _next(line) == [{"a": 1}]
    one.sendall(b": 2}\n")
    assert _next(line) == [{"b": 2}] and line.read() == [] and line.is_open
    one.close()
    select.select([line], [], [], PATIENCE_S)
    assert line.read() == [] and not line.is_open


def test_time_in_which_this_process_was_stopped_does_not_count():
    clock = AwakeClock(longest_gap_s=0.1)
    began = clock()
    time.sleep(0.5)
    assert clock() - began <= 0.1


def test_the_own_share_of_a_step_is_the_wait_for_data_and_the_forward_pass():
    share = OwnShare(use_gpu=False)
    for step in range(50):
        assert share.medians_ms is None, step
        for _ in range(2):  # accumulated batches
            share.begin()
            time.sleep(0.002)
            share.note_data()
            time.sleep(0.001)
            share.end()
        time.sleep(0.003)  # backward pass
        share.close_step()
    all_ms, wait_ms = share.medians_ms
    assert 4.0 <= wait_ms <= all_ms - 2.0


@pytest.fixture
def processes(store, tmp_path):
    """Two processes that watch each other, both in training."""
    command = [sys.executable, "-m", "tests.training.watch.watched_rank"]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(store.port), str(tmp_path), "4"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not all((tmp_path / f"trains-{rank}").exists() for rank in range(2)):
        assert time.monotonic() < deadline and all(process.poll() is None for process in started)
        time.sleep(0.05)
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stopped", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_stopped_process_is_named_and_the_other_ends(stopped, processes, tmp_path):
    processes[stopped].send_signal(signal.SIGSTOP)
    output, _ = processes[1 - stopped].communicate(timeout=PATIENCE_S)
    assert processes[1 - stopped].returncode == 75, output
    host = socket.gethostname()
    assert f"watchdog: rank {stopped} ({host}) has not answered for 3 s" in output and "GO ON" in output
    stacks = (tmp_path / f"rank-{1 - stopped}-stacks.txt").read_text()
    assert "watched_rank.py" in stacks and "Thread" in stacks


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_long_before_the_timeout(killed, processes):
    processes[killed].kill()
    output, _ = processes[1 - killed].communicate(timeout=PATIENCE_S)
    assert processes[1 - killed].returncode == 75 and f"rank {killed} (" in output, output


def test_a_process_that_hangs_with_the_locks_of_logging_held_ends_all_the_same(processes, tmp_path):
    (tmp_path / "hang-0").touch()
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 75, output
    assert "rank 0" in (tmp_path / "rank-1-stacks.txt").read_text()

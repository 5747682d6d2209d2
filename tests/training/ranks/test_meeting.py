"""Ranks meet in a store; threads with a connection each, which is all that the store sees of a process."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.errors import LaunchError
from pipeline.training.ranks.meeting import Meeting
from pipeline.training.ranks.verdict import Verdict


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def attend(port, rank, world_size, within_s=20.0, prefix="run"):
    return Meeting.open("127.0.0.1", port, rank, world_size, served=False, prefix=prefix, within_s=within_s)


def on_every_rank(work, ranks, world_size):
    """Run `work(meeting)` on the ranks at once; returns what each returned or raised."""
    port, alive = free_port(), []

    def one(rank):
        meeting = attend(port, rank, world_size)
        alive.append(meeting)  # the store ends with the object of rank 0
        return work(meeting)

    with ThreadPoolExecutor(len(ranks)) as threads:
        return list(threads.map(one, ranks))


def count(reports):
    missing = [rank for rank in range(3) if rank not in reports]
    return Verdict([(rank, "missing") for rank in missing], ["odd"], str(sorted(reports.items())))


def test_all_get_the_verdict_of_rank_0():
    verdicts = on_every_rank(
        lambda meeting: meeting.council("cards", {"is": meeting.rank}, 20.0, count), range(3), 3
    )
    assert verdicts[0].problems == [] and verdicts[0].warnings == ["odd"]
    assert verdicts[0].line == "[(0, {'is': 0}), (1, {'is': 1}), (2, {'is': 2})]"
    assert verdicts[0] == verdicts[1] == verdicts[2]


def test_a_missing_rank_is_waited_for_no_longer_than_asked():
    verdicts = on_every_rank(lambda meeting: meeting.council("cards", None, 0.5, count), (0, 2), 3)
    assert [verdict.problems for verdict in verdicts] == [[(1, "missing")]] * 2


def test_rank_0_may_come_last():
    def late(meeting):
        if meeting.rank == 0:
            time.sleep(0.3)
        return meeting.council("cards", None, 10.0, count).problems

    assert on_every_rank(late, range(3), 3) == [[], [], []]


def test_without_rank_0_it_is_named_with_its_address():
    port = free_port()
    with pytest.raises(LaunchError, match=rf"rank 0 does not answer at .*127.0.0.1:{port} within 1 s"):
        attend(port, 1, 2, within_s=0.5 + 0.5)


def test_a_rank_may_come_before_rank_0():
    port, found = free_port(), []
    early = threading.Thread(target=lambda: found.append(attend(port, 1, 2).ask("word", 20.0)))
    early.start()
    time.sleep(0.3)
    first = attend(port, 0, 2)
    first.tell("word", [1, None])
    early.join(timeout=30)
    assert found == [[1, None]]


def test_a_taken_port_and_a_rank_that_is_there_twice():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with pytest.raises(LaunchError, match="rank 0 cannot open MASTER_ADDR:MASTER_PORT"):
            attend(taken.getsockname()[1], 0, 2)
    port = free_port()
    held = [attend(port, 0, 2), attend(port, 1, 2)]
    with pytest.raises(LaunchError, match="two processes have RANK=1"):
        attend(port, 1, 2)
    assert len(held) == 2
    assert attend(port, 1, 2, prefix="next attempt").rank == 1


def test_who_is_missing_is_told_from_beside():
    port = free_port()
    first, _ = attend(port, 0, 3), attend(port, 1, 3).tell("cards/1", {})
    first.tell("cards/0", {})
    assert first.missing("cards") == [2]


def test_a_lost_store_is_a_lost_rank_0():
    port = free_port()
    first, second = attend(port, 0, 2), attend(port, 1, 2)
    del first
    with pytest.raises(LaunchError, match="rank 0 at 127.0.0.1:.* is gone"):
        second.ask("word", 20.0)
    second.leave_together()  # nobody is left to wait for


def test_all_leave_together():
    left = []

    def leave(meeting):
        if meeting.rank == 1:
            time.sleep(0.3)
            left.append("saved")
        meeting.leave_together()
        return list(left)

    assert on_every_rank(leave, range(3), 3) == [["saved"]] * 3

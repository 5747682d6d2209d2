"""The first collective: real processes over gloo."""

from datetime import timedelta

from pipeline.training.ranks import first_contact
from pipeline.training.ranks.meeting import Meeting
from tests.training.ranks.spawned import CONTEXT, free_port


def take_part(rank, world_size, port, work, answers):
    meeting = Meeting.open("127.0.0.1", port, rank, world_size, served=False, prefix="run", within_s=60.0)
    answers.put((rank, work(meeting, f"rank {rank} on node{rank}")))


def run(work, world_size):
    """Run `work(meeting, name)` on every rank; returns rank -> answer of those that gave one, and the exit codes."""
    answers, port = CONTEXT.Queue(), free_port()
    ranks = [
        CONTEXT.Process(target=take_part, args=(rank, world_size, port, work, answers))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=120)
    found = {}
    while not answers.empty():
        rank, answer = answers.get()
        found[rank] = answer
    return found, [process.exitcode for process in ranks]


def reach(meeting, name):
    verdict = first_contact.contact(
        meeting, use_gpu=False, local_rank=0, name=name, timeout=timedelta(seconds=60)
    )
    meeting.leave_together()
    return verdict.problems, verdict.warnings, verdict.line


def hang(meeting, name):
    first_contact.CONTACT_S = 4.0
    if meeting.rank == 1:
        meeting.ask("never told", 8.0)
        return "woke up"
    return reach(meeting, name)


def test_ranks_reach_each_other():
    found, codes = run(reach, 2)
    assert codes == [0, 0]
    for problems, warnings, line in found.values():
        assert problems == [] and warnings == []
        assert line.startswith("all-reduce ok (") and line.endswith(" ms)")


def test_a_rank_that_hangs_ends_the_others_and_is_named(capfd):
    found, codes = run(hang, 2)
    assert codes[0] == 1 and 0 not in found
    assert "rank 0 on node0: the ranks did not reach each other within 4 s; not through: ranks 0, 1" in (
        capfd.readouterr().err
    )


def test_wrong_sums_and_sockets_name_the_host():
    """What rank 0 makes of reports that sound hardware does not give."""
    sound = {"name": "rank 0 on a", "wrong": 0, "ms": 1.0, "sockets": False}
    damaged = {"name": "rank 1 on b", "wrong": 7, "ms": 3.14, "sockets": True}
    verdict = first_contact.judge_contact(3, {0: sound, 1: damaged})
    (rank, text), (absent, came_not) = verdict.problems
    assert rank == 1 and text.startswith("rank 1 on b: an all-reduce over 3 ranks gave 7 wrong values")
    assert absent == 2 and came_not.startswith("rank 2 did not come through")
    assert verdict.warnings[0].startswith("NCCL fell back to sockets on rank 1 on b")
    assert verdict.line == "all-reduce ok (3.1 ms)"
    assert not verdict.is_loss, "a damaged host is no loss that another start mends"
    assert first_contact.judge_contact(2, {0: sound}).is_loss
    assert not first_contact.judge_contact(1, {0: sound}).is_loss


def test_sockets_are_found_in_the_log_of_nccl(tmp_path):
    log = tmp_path / "nccl.log"
    for line, expected in (
        ("n1:7:9 [0] NCCL INFO Channel 00/0 : 1[1] -> 0[0] [receive] via NET/Socket/0", True),
        (
            "n1:7:9 [0] NCCL INFO Using network Socket\nn1:7:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC",
            False,
        ),
        ("n1:7:9 [0] NCCL INFO Channel 00/0 : 1[1] -> 0[0] [receive] via NET/IB/0/GDRDMA", False),
    ):
        log.write_text(line)
        assert first_contact.uses_sockets(log) is expected
    assert first_contact.uses_sockets(None) is False

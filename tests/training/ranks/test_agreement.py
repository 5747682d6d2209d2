"""Ranks decide together; real processes over gloo."""

from datetime import timedelta

import torch.distributed as dist

from pipeline.errors import LaunchError
from pipeline.training.ranks.agreement import Decision, RankAgreement
from tests.training.ranks.spawned import CONTEXT, free_port


def _rank(work, rank, world_size, port, answers):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    agreement = RankAgreement(timedelta(seconds=20))
    agreement.connect()
    answers.put((rank, work(agreement, rank)))


def run(work, world_size):
    """Run `work(agreement, rank)` on every rank; returns the answers in the order of ranks."""
    answers, port = CONTEXT.Queue(), free_port()
    ranks = [
        CONTEXT.Process(target=_rank, args=(work, rank, world_size, port, answers))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    found = dict(answers.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join()
    return [found[rank] for rank in range(world_size)]


def wish_at_step_three(agreement, rank):
    wishes = [Decision.GO_ON] * 6
    if rank == 1:
        wishes[2:4] = Decision.SAVE, Decision.STOP
    decisions = [int(agreement.decide(wish)) for wish in wishes]
    agreement.close()
    return decisions


def add_up(agreement, rank):
    return agreement.greatest(rank - 5), agreement.total(2**255 + rank), agreement.total(rank)


def lose_a_rank(agreement, rank):
    if rank == 1:
        return "gone"
    try:
        for _ in range(3):
            agreement.decide(Decision.GO_ON)
        agreement.greatest(0)
    except LaunchError as error:
        return str(error)
    return "nothing noticed"


def test_every_rank_gets_the_greatest_wish_at_the_same_step():
    first, second, third = run(wish_at_step_three, 3)
    assert first == second == third == [0, 0, 0, 1, 2, 0]


def test_ranks_add_up():
    expected = (-4, 1, 1)  # 2 * 2^255 is 0 modulo 2^256
    assert run(add_up, 2) == [expected, expected]


def test_a_lost_rank_is_an_error_and_not_a_hang():
    answers = run(lose_a_rank, 2)
    assert "another rank is gone" in answers[0], answers


def test_one_process_decides_alone_and_at_once():
    agreement = RankAgreement(timedelta(seconds=1))
    agreement.connect()
    assert agreement.decide(Decision.STOP) is Decision.STOP
    assert (agreement.greatest(7), agreement.total(9)) == (7, 9)
    agreement.close()

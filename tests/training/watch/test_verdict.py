"""Who is at fault, from what is known of the ranks."""

import pytest

from pipeline.training.watch.pulse import Place, Pulse, Stage
from pipeline.training.watch.stragglers import StragglerReport
from pipeline.training.watch.verdict import Sighting, judge

ALLOWANCE_S = 50.0


def place(stage=Stage.BACKWARD, lap=7, item=0, *, step=3, is_bounded=True):
    return Place(step, lap, stage, item, Stage(stage).name.lower(), is_bounded)


def seen(rank, stalled_s=0.0, at=None, **known):
    return Sighting(Pulse(rank, f"host-{rank}", at or place(), stalled_s), **known)


def test_a_rank_that_is_behind_is_named_and_not_those_that_wait_for_it():
    waiting = [seen(rank, 50.0) for rank in (0, 1, 3)]
    verdict = judge([*waiting, seen(2, 50.4, place(Stage.DATA))], ALLOWANCE_S)
    assert verdict.culprits == (2,) and not verdict.is_failure
    assert verdict.message.startswith("rank 2 (host-2) has made no progress for 50 s, and the others wait")
    assert "rank 0 (host-0), rank 1 (host-1), rank 3 (host-3): step 3, backward, for 50 s" in verdict.message


@pytest.mark.parametrize(
    ("behind", "ahead"),
    [
        (place(Stage.STEP, lap=6), place(Stage.DATA)),
        (place(Stage.VALIDATION, item=9), place(Stage.METRICS)),  # with fewer batches to validate
        (place(Stage.DEMOS), place(Stage.SETTLING)),
        (place(Stage.FORWARD), place(Stage.BACKWARD)),
        (place(Stage.VALIDATION, item=3), place(Stage.VALIDATION, item=4)),
    ],
)
def test_what_behind_means(behind, ahead):
    verdict = judge([seen(0, 60.0, behind), seen(1, 50.0, ahead)], ALLOWANCE_S)
    assert verdict.culprits == (0,)


def test_a_silent_rank_is_named_before_one_that_is_behind():
    sightings = [seen(0, 45.0, place(Stage.DATA)), seen(1, 1.0, silent_s=50.0)]
    verdict = judge(sightings, ALLOWANCE_S)
    assert verdict.culprits == (1,)
    assert "rank 1 (host-1) has not answered for 50 s" in verdict.message
    assert "rank 1 (host-1): last heard of at step 3, backward, for 51 s" in verdict.message
    early = judge([seen(0, 50.0, place(Stage.DATA)), seen(1, 1.0, silent_s=48.0)], ALLOWANCE_S)
    assert early.culprits == (1,), "the others stood still first"


def test_all_at_one_place_is_said_so():
    verdict = judge([seen(0, 50.0), seen(1, 51.0)], ALLOWANCE_S)
    assert verdict.culprits == () and "all ranks have stood still for 50 s at: backward" in verdict.message


def test_a_process_alone():
    assert judge([seen(0, 49.9)], ALLOWANCE_S) is None
    assert judge([seen(0, 50.0)], ALLOWANCE_S).message.startswith("rank 0 (host-0) has made no progress")


def test_work_without_a_bound_and_those_who_wait_for_it_are_left_alone():
    busy = place(Stage.FINISHING, is_bounded=False)
    assert judge([seen(0, 900.0, busy), seen(1, 800.0)], ALLOWANCE_S) is None
    verdict = judge([seen(0, 900.0, busy, silent_s=50.0), seen(1, 800.0)], ALLOWANCE_S)
    assert verdict.culprits == (0,), "but not one that is silent"


def test_a_rank_that_is_gone_ends_the_others_soon():
    assert judge([seen(0), seen(1, gone_s=4.0)], ALLOWANCE_S) is None, "its supervisor comes first"
    verdict = judge([seen(0), seen(1, gone_s=5.0)], ALLOWANCE_S)
    assert verdict.culprits == (1,) and "rank 1 (host-1) is gone" in verdict.message
    assert not verdict.is_failure
    verdict = judge([seen(0), seen(1, gone_s=5.0), seen(2, gone_s=5.0, has_failed=True)], ALLOWANCE_S)
    assert verdict.culprits == (2,) and verdict.is_failure and "its own message" in verdict.message


def test_a_thousand_ranks_fit_on_a_screen():
    verdict = judge(
        [seen(rank, 50.0, place(Stage.DATA)) for rank in range(999)] + [seen(999, 50.0)], ALLOWANCE_S
    )
    assert "and 991 more" in verdict.message and len(verdict.message) < 1200


def shares(*milliseconds, step=100):
    return [
        Pulse(rank, f"host-{rank}", place(step=step), 0.0, share, share and share / 2)
        for rank, share in enumerate(milliseconds)
    ]


def test_a_straggler_is_reported_with_its_host():
    (line,) = StragglerReport().lines(shares(50.0, 61.0, 49.0, 50.0))
    assert (
        line.startswith("rank 1 (host-1) is slow") and "61.0 ms" in line and "the median rank 50.0 ms" in line
    )
    assert "30.5 ms of it waiting for data" in line
    (line,) = StragglerReport().lines(shares(61.0, 50.0))
    assert line.startswith("rank 0"), "of two, the quicker one is the measure"


@pytest.mark.parametrize("milliseconds", [(50.0, 59.0, 50.0), (5.0, 6.9), (50.0, None), (90.0,)], ids=str)
def test_no_straggler(milliseconds):
    assert StragglerReport().lines(shares(*milliseconds)) == []


def test_a_straggler_is_not_reported_at_every_step():
    report = StragglerReport()
    told = [step for step in range(100, 1300, 50) if report.lines(shares(50.0, 80.0, step=step))]
    assert told == [100, 600, 1100]

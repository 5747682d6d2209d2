"""Whatever a cluster does to a job, it comes back and ends as the uninterrupted run does."""

from dataclasses import dataclass

import pytest

from tests.slurm import recipes, strikes
from tests.slurm.recipes import STEPS, Recipe
from tests.slurm.strikes import Strike
from tests.slurm.submitted import Interpreter

pytestmark = pytest.mark.slurm
_FIRST, _APART = 8, 16  # steps before the first strike, and between two


@dataclass(frozen=True)
class Case:
    """A run, and what happens to it.

    Attributes:
        recipe: the run.
        strikes: one after the other.
        saves: whether the run is told and has the time to save.
        more: further arguments.
    """

    recipe: Recipe
    strikes: tuple[Strike, ...]
    saves: bool = True
    more: tuple[str, ...] = ()


QUICK = {
    "two nodes, preempted twice": Case(recipes.TWO_NODES, (strikes.preempt, strikes.preempt)),
    "ZeRO on two nodes, requeued": Case(recipes.ZERO, (strikes.requeue,)),
    "two nodes, the second dies": Case(recipes.TWO_NODES, (strikes.kill_node_2,), saves=False),
    "two ranks, rank 1 is killed": Case(recipes.TWO_RANKS, (strikes.kill_rank_1,), saves=False),
}
LONG = {
    "one node, preempted": Case(recipes.ONE, (strikes.preempt,)),
    "one node, preempted twice": Case(recipes.ONE, (strikes.preempt, strikes.preempt)),
    "two ranks, preempted": Case(recipes.TWO_RANKS, (strikes.preempt,)),
    "two nodes, requeued": Case(recipes.TWO_NODES, (strikes.requeue,)),
    "two nodes, asked to save": Case(recipes.TWO_NODES, (strikes.ask_to_save,)),
    "two nodes, the first dies": Case(recipes.TWO_NODES, (strikes.kill_node_1,), saves=False),
    "two nodes, rank 0 is killed": Case(recipes.TWO_NODES, (strikes.kill_rank_0,), saves=False),
    "two nodes, rank 1 is killed": Case(recipes.TWO_NODES, (strikes.kill_rank_1,), saves=False),
    "one rank, killed": Case(recipes.ONE, (strikes.kill_rank_0,), saves=False),
    "ZeRO on two nodes, preempted": Case(recipes.ZERO, (strikes.preempt,)),
    "ZeRO on two nodes, rank 1 is killed": Case(recipes.ZERO, (strikes.kill_rank_1,), saves=False),
    "four ranks on two nodes, preempted": Case(recipes.FOUR_RANKS, (strikes.preempt,)),
    "four ranks on two nodes, rank 0 is killed": Case(
        recipes.FOUR_RANKS, (strikes.kill_rank_0,), saves=False
    ),
}
CASES = [pytest.param(case, id=name) for name, case in QUICK.items()]
CASES += [pytest.param(case, id=name, marks=pytest.mark.long) for name, case in LONG.items()]


@pytest.mark.parametrize("case", CASES)
def test_a_job_comes_back_and_ends_alike(case, sweep, reference):
    expected = reference(case.recipe)
    sweep.submit(*case.recipe.common, *case.recipe.job, *case.more)
    for index, strike in enumerate(case.strikes):
        sweep.wait_for_step(_FIRST + index * _APART)
        strike(sweep)
    jobs = sweep.cluster.end_of_jobs()
    assert [(job.state, job.code) for job in jobs] == [("COMPLETED", 0)]
    # a node that is back may end the next attempt too, before SLURM forgets that the job was to end there
    assert sweep.cluster.restarts(jobs[0].name) >= len(case.strikes)
    if case.saves:
        assert sweep.cluster.restarts(jobs[0].name) == len(case.strikes)
        sweep.check_nothing_lost()
    sweep.check_equal(expected)


def test_an_array_of_four_is_preempted(sweep, reference):
    """Each task is a run of its own; all four run at one time, are preempted together and come back."""
    seeds = (1, 2, 3, 4)
    said = sweep.submit(*recipes.ONE.common, *recipes.ONE.job, "trainer.seed=1,2,3,4")
    for number in range(4):
        sweep.wait_for_step(_FIRST, number)
        assert str(sweep.run_dir(number)) in said
    strikes.preempt(sweep)
    jobs = sweep.cluster.end_of_jobs()
    array = jobs[0].name.split("_")[0]
    assert [(job.name, job.state) for job in jobs] == [
        (f"{array}_{number}", "COMPLETED") for number in range(4)
    ]
    for number, seed in enumerate(seeds):
        assert sweep.sessions(number)[0] == 0 and len(sweep.sessions(number)) == 2
        sweep.check_equal(reference(recipes.ONE, f"trainer.seed={seed}"), number)


def test_preemption_by_term_alone(sweep, reference):
    """A site that does not pass on the signal of --signal sends TERM at once, to tasks and srun alike."""
    sweep.cluster.set_parameter("SlurmctldParameters", "allow_user_triggers")  # anything else
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job)
    sweep.wait_for_step(_FIRST)
    strikes.preempt(sweep)
    jobs = sweep.cluster.end_of_jobs()
    assert [job.state for job in jobs] == ["COMPLETED"]
    sweep.check_nothing_lost()
    sweep.check_equal(reference(recipes.TWO_NODES))


@pytest.mark.long
@pytest.mark.parametrize("recipe", [recipes.ONE, recipes.TWO_NODES], ids=["one rank", "two nodes"])
def test_preemption_without_grace(recipe, sweep, reference):
    """A partition without a grace time, and ranks that hear nothing before SIGKILL."""
    sweep.interpreter = Interpreter(sweep.folder, is_deaf=True)
    sweep.submit(*recipe.common, *recipe.job, "hydra.launcher.partition=abrupt")
    sweep.wait_for_step(_FIRST)
    strikes.preempt(sweep)
    jobs = sweep.cluster.end_of_jobs()
    assert [job.state for job in jobs] == ["COMPLETED"]
    assert not sweep.saved() and len(sweep.sessions()) == 2
    sweep.check_equal(reference(recipe))


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.long)], ids=["once", "three times"])
def test_the_time_limit(times, sweep, reference):
    """The shortest limit that SLURM knows is a minute; the pauses of the steps alone last `times` limits."""
    sweep.interpreter = Interpreter(sweep.folder, pause_s=times * 62 / STEPS)
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=5")
    sweep.submit(*recipes.TWO_NODES.common, *recipes.TWO_NODES.job, *limit)
    jobs = sweep.cluster.end_of_jobs(900)
    assert [job.state for job in jobs] == ["COMPLETED"]
    assert sweep.cluster.restarts(jobs[0].name) >= times
    sweep.check_nothing_lost()
    sweep.check_equal(reference(recipes.TWO_NODES))


@pytest.mark.long
@pytest.mark.parametrize(
    "recipe",
    [recipes.ONE, recipes.TWO_RANKS, recipes.TWO_NODES, recipes.FOUR_RANKS],
    ids=["one", "two on a node", "two nodes", "four"],
)
def test_an_undisturbed_job(recipe, sweep, reference):
    """However its ranks are spread, the run is that of one machine."""
    sweep.submit(*recipe.common, *recipe.job)
    jobs = sweep.cluster.end_of_jobs()
    assert [job.state for job in jobs] == ["COMPLETED"] and sweep.cluster.restarts(jobs[0].name) == 0
    assert sweep.step() == STEPS
    sweep.check_equal(reference(recipe))

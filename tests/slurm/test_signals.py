"""Requests to stop at random instants of a job's life: while it starts, validates, writes, and in between."""

import random
import signal
import time
from dataclasses import dataclass

import pytest

from tests.integration.chaos.observer import chaos_observer
from tests.integration.chaos.observer.chaos_observer import WRITE, Observation
from tests.slurm import processes, recipes
from tests.slurm.cluster import PATIENCE_S, wait_until
from tests.slurm.submitted import Interpreter, Sweep

pytestmark = [pytest.mark.slurm, pytest.mark.long]

_START_UP, _VALIDATION, _STEP = "start-up", "validation", "step"
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_LONGEST_START_UP_S = 4.0
_MOST_STEPS = 8


@dataclass(frozen=True)
class Instant:
    """When a signal is sent.

    Attributes:
        kind: what rank 0 does then.
        delay_s: for one at the start, since the process is there.
        steps: for one in training, since the attempt began to train.
        number: the signal.
    """

    kind: str
    delay_s: float
    steps: int
    number: signal.Signals


def _draw(seed: int) -> list[Instant]:
    rng = random.Random(seed)
    kinds = [_START_UP, _VALIDATION, WRITE, _STEP, rng.choice([_START_UP, WRITE, _STEP])]
    rng.shuffle(kinds)
    return [
        Instant(kind, rng.uniform(0, _LONGEST_START_UP_S), rng.randint(1, _MOST_STEPS), rng.choice(_SIGNALS))
        for kind in kinds
    ]


@pytest.mark.parametrize(
    ("seed", "recipe"), [(1, recipes.ONE), (2, recipes.TWO_NODES)], ids=["one rank", "two nodes"]
)
def test_five_signals(seed, recipe, sweep, reference):
    expected = reference(recipe)
    sweep.interpreter = Interpreter(sweep.folder, is_observed=True)
    sweep.submit(*recipe.common, *recipe.job)
    former = 0
    instants = _draw(seed)
    for instant in instants:
        former = _strike(sweep, instant, former)
    jobs = sweep.cluster.end_of_jobs()
    assert [job.state for job in jobs] == ["COMPLETED"]
    assert sweep.cluster.restarts(jobs[0].name) == len(instants), sweep.history()
    sweep.check_equal(expected)


def _strike(sweep: Sweep, instant: Instant, former: int) -> int:
    """Send a signal to rank 0 of the next attempt at an instant; return its process when it has ended."""
    wait_until(lambda: processes.rank_of(sweep.run_dir(), 0) not in (None, former), f"a start for {instant}")
    process = processes.rank_of(sweep.run_dir(), 0)
    assert process is not None
    if instant.kind == _START_UP:
        time.sleep(instant.delay_s)
    else:
        _await(sweep, process, instant)
    assert processes.is_alive(process), f"ended before {instant}"
    processes.send(process, instant.number)
    wait_until(lambda: not processes.is_alive(process), f"the end of an attempt after {instant}")
    return process


def _await(sweep: Sweep, process: int, instant: Instant) -> None:
    file = sweep.interpreter.stages / str(process)
    deadline = time.monotonic() + PATIENCE_S
    while not ((seen := chaos_observer.read(file)) and _is_due(seen, instant)):
        assert processes.is_alive(process) and time.monotonic() < deadline, f"never came to {instant}"
        time.sleep(0.001)


def _is_due(seen: Observation, instant: Instant) -> bool:
    if seen.first_step < 0:
        return False
    if instant.kind == _STEP:
        return seen.step >= seen.first_step + instant.steps
    return seen.is_in(instant.kind)

"""Draws the cases from a seed: which run, how it is started, and where it is struck."""

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from tests.integration.chaos.configurations import PAIR, SAVING, SINGLE, STRATEGIES, Configuration
from tests.integration.chaos.observer.chaos_observer import WRITE

CATEGORIES = ("set-up", "first batch", "mid-step", WRITE, "validation", "last batch")
ANY = "any time"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# One of three cases has two ranks; one of eight starts from scratch (a third of them with two ranks).
_PAIR_EVERY, _SCRATCH_EVERY = 3, 8
_STRIKES_OF_A_SAVING_RUN = 20
_DELAYS_S = {
    "first batch": 0.01,
    "mid-step": 0.01,
    WRITE: 0.004,
    "validation": 0.03,
    "last batch": 0.01,
}
_OCCURRENCES = {"first batch": 1, "mid-step": 14, WRITE: 6, "validation": 4, "last batch": 3}


@dataclass(frozen=True)
class Strike:
    """One blow.

    Attributes:
        how: who gets the signal: `job` and `all` are all processes, `process`, `root` and `supervisor` the one that
            was started, `rank N` one rank.
        number: the signal.
        stage: what goes on at that moment, or ANY.
        occurrence: which one of these stages counts, from 1.
        delay_s: time from then on; from the start for `set-up` and ANY.
        rank: whose stage counts.
    """

    how: str
    number: signal.Signals
    stage: str
    occurrence: int
    delay_s: float
    rank: int

    @property
    def is_kill(self) -> bool:
        """Whether nothing can be saved."""
        return self.number == signal.SIGKILL


@dataclass(frozen=True)
class Case:
    """One run with what happens to it.

    Attributes:
        number: as in the table, from 1.
        configuration: the run.
        is_forked: from the preloaded process, or from scratch.
        resume: `dir` goes on with run.resume=DIR, `auto` repeats the command with run.resume=auto in its run.dir,
            `auto, no dir` the same without a run.dir.
        strikes: in their order; a later one hits the resumed run.
        broken: what is changed on purpose before the restart: `seed`, `order`, `noise`, or nothing.
    """

    number: int
    configuration: Configuration
    is_forked: bool
    resume: str
    strikes: tuple[Strike, ...]
    broken: str = ""


def draw_kills(count: int, seed: int) -> list[Case]:
    """Return cases of SIGKILL; for one process and for two, the first kills go through all CATEGORIES in turn."""
    cases, turns = [], {1: 0, 2: 0}
    for number in range(1, count + 1):
        draw = random.Random(f"{seed} kill {number}")
        configuration = draw.choice(PAIR if number % _PAIR_EVERY == 0 else SINGLE)
        turn = turns[configuration.num_processes]
        turns[configuration.num_processes] += 1
        cases.append(_kill_case(draw, number, configuration, turn))
    return cases


def draw_strategies(count: int, seed: int) -> list[Case]:
    """Return cases of SIGKILL of runs that share the work in every way; the first kills go through all CATEGORIES."""
    cases = []
    for number in range(1, count + 1):
        draw = random.Random(f"{seed} strategy {number}")
        cases.append(_kill_case(draw, number, STRATEGIES[number % len(STRATEGIES)], number))
    return cases


def _kill_case(draw: random.Random, number: int, configuration: Configuration, turn: int) -> Case:
    stages = [(*CATEGORIES, ANY)[turn % (len(CATEGORIES) + 1)]]
    stages += draw.choices((*CATEGORIES, ANY), k=draw.choice((0, 0, 1, 1, 2)))
    is_forked = number % _SCRATCH_EVERY != 1
    strikes = [
        _strike(draw, configuration, stage, is_forked, is_first=index == 0)
        for index, stage in enumerate(stages)
    ]
    resume = draw.choice(("dir", "dir", "dir", "auto", "auto, no dir"))
    return Case(number, configuration, is_forked, resume, tuple(strikes))


def draw_signals(count: int, seed: int) -> list[Case]:
    """Return cases of one or two graceful signals each, every fourth with two ranks."""
    cases = []
    for number in range(1, count + 1):
        draw = random.Random(f"{seed} signal {number}")
        configuration = draw.choice(PAIR if number % 4 == 0 else SINGLE)
        places: Sequence[str] = (*CATEGORIES, ANY, ANY, "mid-step", "between steps")
        strikes = []
        for index in range(draw.choice((1, 1, 2))):
            stage = places[number % len(places)] if index == 0 else draw.choice(places)
            kill = _strike(draw, configuration, stage, is_forked=True, is_first=index == 0)
            stop = STOP_SIGNALS[number % len(STOP_SIGNALS)] if index == 0 else draw.choice(STOP_SIGNALS)
            recipients = ["root"] if stage in ("set-up", ANY) else ["root", "all"]
            if configuration.is_parallel and stop != signal.SIGINT and len(recipients) > 1:
                recipients.append(f"rank {kill.rank}")  # a SIGINT comes from a terminal, to the root alone
            how = draw.choice(recipients)
            strikes.append(Strike(how, stop, stage, kill.occurrence, kill.delay_s, rank=kill.rank))
        resume = draw.choice(("dir", "auto"))
        cases.append(Case(number, configuration, number % 5 != 0, resume, tuple(strikes)))
    return cases


def draw_writes(number: int, seed: int) -> Case:
    """Return one run that is killed many times while it writes checkpoints; every third has two ranks."""
    draw = random.Random(f"{seed} write {number}")
    single, ddp, zero = SAVING
    configuration = {3: ddp, 0: zero}.get(number % 6, single)
    strikes = []
    for _ in range(_STRIKES_OF_A_SAVING_RUN):
        rank = draw.randrange(2) if configuration is zero else 0  # with DDP the first rank alone writes
        how = draw.choice(("job", f"rank {rank}", "job")) if configuration.is_parallel else "job"
        delay = draw.choice((0.0, draw.uniform(0.0, 0.003)))
        strikes.append(Strike(how, signal.SIGKILL, WRITE, draw.randint(1, 6), delay, rank))
    return Case(number, configuration, True, "dir", tuple(strikes))


def draw_broken(kind: str, count: int, seed: int) -> list[Case]:
    """Return runs that are killed after a first checkpoint and then continued as another run would be."""
    cases = []
    for number in range(1, count + 1):
        draw = random.Random(f"{seed} broken {number}")
        strike = Strike("job", signal.SIGKILL, "last batch", draw.randint(1, 2), 0.05, rank=0)
        cases.append(Case(number, SINGLE[number % len(SINGLE)], True, "dir", (strike,), kind))
    return cases


def _strike(
    draw: random.Random, configuration: Configuration, stage: str, is_forked: bool, is_first: bool
) -> Strike:
    rank = draw.randrange(configuration.num_processes)
    if stage == WRITE:
        rank = 0
    if configuration.is_parallel:
        how = draw.choice(("job", f"rank {rank}", f"rank {rank}", "supervisor"))
    else:
        how = draw.choice(("job", "process"))
    slow = configuration.is_parallel or not is_forked
    if stage == "set-up":
        delay = draw.uniform(0.0, 5.0 if slow else 1.0)
    elif stage == ANY:
        delay = draw.uniform(0.0, (10.0 if configuration.is_parallel else 7.0) if slow else 2.5)
    elif stage == "between steps":
        delay = draw.uniform(0.0, 0.005)
    else:
        delay = draw.uniform(0.0, _DELAYS_S[stage])
    occurrence = draw.randint(1, min(_OCCURRENCES.get(stage, 4), 14 if is_first else 3))
    return Strike(how, signal.SIGKILL, stage, occurrence, delay, rank)

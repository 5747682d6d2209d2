"""What became of a case, and of every blow in it."""

from dataclasses import dataclass, field

from tests.integration.chaos.observer.chaos_observer import WRITE, Observation
from tests.integration.chaos.plan import Case, Strike


@dataclass
class Hit:
    """A blow that fell.

    Attributes:
        strike: as planned.
        seen: what the struck process did last, None before it said anything.
        lost: optimiser steps that the next session repeats, None where there was none.
    """

    strike: Strike
    seen: Observation | None
    lost: int | None = None

    @property
    def place(self) -> str:
        """Category in which it fell."""
        if self.seen is None:
            return "set-up"
        return WRITE if self.seen.is_writing else self.seen.stage

    @property
    def step(self) -> int:
        """Optimiser steps done by then, -1 before training."""
        return -1 if self.seen is None else self.seen.step


@dataclass
class Result:
    """What became of a case."""

    case: Case
    hits: list[Hit] = field(default_factory=list)
    restarts: int = 0
    verdict: str = ""
    details: str = ""
    seconds: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether the run ended as the uninterrupted one."""
        return self.verdict == "equal"

"""What one rank says of itself once a second: where it is, and since when. Imports no torch."""

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any


class Stage(IntEnum):
    """Parts of a training batch and of what follows it, in the order in which every rank goes through them."""

    SET_UP = 0
    AFTER_BATCH = 1
    VALIDATION = 2
    METRICS = 3
    DEMOS = 4
    SETTLING = 5
    DATA = 6
    FORWARD = 7
    BACKWARD = 8
    STEP = 9
    FINISHING = 10


@dataclass(frozen=True)
class Place:
    """Where the training loop of a rank is; two ranks at one place have gone through the same.

    Attributes:
        step: optimiser steps done.
        lap: training batches done.
        stage: part of the lap, a `Stage`.
        item: how far within the stage.
        words: the same for a reader.
        is_bounded: whether the watchdog's time counts here; set-up may take as long as it takes.
    """

    step: int
    lap: int
    stage: int
    item: int
    words: str
    is_bounded: bool

    @property
    def order(self) -> tuple[int, int, int]:
        """A rank with less has more to do before it is where another one is."""
        return (self.lap, self.stage, self.item)


@dataclass(frozen=True)
class Pulse:
    """One rank at one moment.

    Attributes:
        rank: global rank.
        host: name of its machine.
        place: where its training loop is.
        stalled_s: seconds since it came there.
        share_ms: its own part of an optimiser step, the median of the newest ones; None before there are enough.
        wait_ms: how much of it is waiting for data.
    """

    rank: int
    host: str
    place: Place
    stalled_s: float
    share_ms: float | None = None
    wait_ms: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Pulse":
        """Return the pulse that became this plain data."""
        return cls(**{**plain, "place": Place(**plain["place"])})

"""What comes of a council of all ranks. Needs no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """What rank 0 finds when all ranks have reported, or too few of them.

    Attributes:
        problems: (rank at fault, what is wrong); none: go on.
        warnings: lines to print.
        line: what was found right.
        is_loss: ranks are missing, and nothing else is wrong.
    """

    problems: list[tuple[int, str]]
    warnings: list[str] = field(default_factory=list)
    line: str = ""
    is_loss: bool = False


def named(ranks: Iterable[int]) -> str:
    """Return `rank 3`, or `ranks 1, 3`."""
    numbers = [str(rank) for rank in ranks]
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"

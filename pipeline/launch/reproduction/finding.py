"""What a check of a run has found."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How what a run was made of stands to what there is now."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "not checked"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        topic: what was checked, one word, as `--ignore` takes it.
        verdict: the outcome.
        text: what is the same, what was and what is, or why it cannot be told.
        remedy: what makes it the same again, empty where nothing is to be done.
        notes: what differs and decides nothing.
        is_final: whether nothing can go on with that difference.
    """

    topic: str
    verdict: Verdict
    text: str
    remedy: str = ""
    notes: tuple[str, ...] = ()
    is_final: bool = False


def same(topic: str, text: str, *notes: str) -> Finding:
    """Return the finding that nothing has changed."""
    return Finding(topic, Verdict.SAME, text, notes=notes)


def different(topic: str, text: str, remedy: str = "", *notes: str) -> Finding:
    """Return the finding that something has changed."""
    return Finding(topic, Verdict.DIFFERENT, text, remedy, notes)


def unusable(topic: str, text: str, remedy: str) -> Finding:
    """Return the finding that something is not there, or cannot be used, without which no step can be trained."""
    return Finding(topic, Verdict.DIFFERENT, text, remedy, is_final=True)


def unknown(topic: str, text: str, *notes: str) -> Finding:
    """Return the finding that a run says nothing to compare with."""
    return Finding(topic, Verdict.UNKNOWN, text, notes=notes)


def was_is(what: str, was: Any, now: Any) -> str:
    """Return what was and what is, in words."""
    return f"{what} was {shown(was)}, is {shown(now)}"


def shown(value: Any) -> str:
    """Return a value as a person reads it."""
    return "none" if value is None else str(value)

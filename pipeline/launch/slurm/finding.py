"""One thing that `make doctor` has looked at."""

from dataclasses import dataclass

OK, NOTE, MISSING = "ok", "note", "missing"


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        word: `ok`, `note` (works, but look at it), or `missing`.
        text: what is there, or not.
        remedy: what to do, empty where there is nothing to do.
        stops_training: whether nothing can be trained without it.
    """

    word: str
    text: str
    remedy: str = ""
    stops_training: bool = False

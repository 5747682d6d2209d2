"""One thing that `make doctor` has looked at, and how it asks programs."""

import subprocess
from dataclasses import dataclass

OK, NOTE, MISSING = "ok", "note", "missing"
_PATIENCE_S = 15.0


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


def ask(*command: str) -> str | None:
    """Return what a command prints, None where it does not answer."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None

"""Who is at fault when ranks make no progress. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.training.watch.pulse import Pulse

_LOST_GRACE_S = 5.0  # a supervisor that sees the death itself is quicker, and knows the reason
_MOST_NAMED = 8


@dataclass(frozen=True)
class Sighting:
    """What is known of a rank.

    Attributes:
        pulse: the newest that came from it.
        silent_s: seconds since then.
        gone_s: seconds since its connection broke or it told of an error; None while neither.
        has_failed: it told of an error.
    """

    pulse: Pulse
    silent_s: float = 0.0
    gone_s: float | None = None
    has_failed: bool = False

    @property
    def stalled_s(self) -> float:
        """Seconds without progress, as far as one can know."""
        return self.pulse.stalled_s + self.silent_s

    @property
    def name(self) -> str:
        """Rank and host."""
        return f"rank {self.pulse.rank} ({self.pulse.host})"


@dataclass(frozen=True)
class Verdict:
    """Why the job is to end.

    Attributes:
        culprits: ranks at fault; empty if none stands out.
        message: lines for the user.
        is_failure: a rank ended with an error that starting again may not mend.
    """

    culprits: tuple[int, ...]
    message: str
    is_failure: bool = False


def judge(sightings: Sequence[Sighting], allowance_s: float) -> Verdict | None:
    """Return who is at fault, None while all is well.

    A rank that is silent is at fault before one that speaks and makes no progress; of those, the one that is behind is:
    the others have come as far as they can without it.

    Args:
        sightings: of all ranks that have not left in peace.
        allowance_s: silence and standing still for so long are too long.
    """
    gone = [seen for seen in sightings if seen.gone_s is not None and seen.gone_s >= _LOST_GRACE_S]
    if gone:
        failed = [seen for seen in gone if seen.has_failed]
        reason = (
            "ended with an error, see its own message" if failed else "is gone: the process or its host died"
        )
        return _verdict(failed or gone, sightings, reason, is_failure=bool(failed))
    silent = [seen for seen in sightings if seen.silent_s >= allowance_s]
    if silent:
        reason = (
            f"has not answered for {silent[0].silent_s:.0f} s: the process is stopped (SIGSTOP), or its host or "
            "network hangs"
        )
        return _verdict(silent, sightings, reason)
    stalled = [seen for seen in sightings if seen.stalled_s >= allowance_s]
    if not stalled or not all(seen.pulse.place.is_bounded for seen in sightings):
        return None  # one that is busy without bound may be what the others wait for
    quiet = [seen for seen in sightings if seen.silent_s >= allowance_s / 2]
    least = min(seen.pulse.place.order for seen in sightings)
    behind = quiet or [seen for seen in sightings if seen.pulse.place.order == least]
    still = f"has made no progress for {behind[0].stalled_s:.0f} s"
    if len(sightings) == 1:
        return _verdict(behind, sightings, still)
    if len(behind) == len(sightings):
        place = behind[0].pulse.place.words
        return _verdict(
            (), sightings, f"all ranks have stood still for {behind[0].stalled_s:.0f} s at: {place}"
        )
    return _verdict(behind, sightings, f"{still}, and the others wait")


def _verdict(
    culprits: Sequence[Sighting], sightings: Sequence[Sighting], reason: str, is_failure: bool = False
) -> Verdict:
    named = ", ".join(seen.name for seen in culprits[:_MOST_NAMED])
    if len(culprits) > _MOST_NAMED:
        named += f" and {len(culprits) - _MOST_NAMED} more"
    head = f"{named} {reason}" if culprits else reason
    ranks = tuple(seen.pulse.rank for seen in culprits)
    return Verdict(ranks, "\n".join([head, *_table(sightings)]), is_failure)


def _table(sightings: Sequence[Sighting]) -> list[str]:
    """Return a line for each place with the ranks that are there; a thousand ranks stand at a few places."""
    groups: dict[tuple[str, int, str], list[Sighting]] = {}
    for seen in sightings:
        last = "last heard of at " if seen.silent_s >= _LOST_GRACE_S or seen.gone_s is not None else ""
        groups.setdefault((last, seen.pulse.place.step, seen.pulse.place.words), []).append(seen)
    lines = []
    for (last, step, words), there in groups.items():
        named = ", ".join(seen.name for seen in there[:_MOST_NAMED])
        more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
        since = max(seen.stalled_s for seen in there)
        lines.append(f"  {named}{more}: {last}step {step}, {words}, for {since:.0f} s")
    return lines

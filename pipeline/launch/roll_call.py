"""The roll call before step 1: all ranks are there, run the same and reach each other; who does not is named."""

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config.schema import Config
from pipeline.errors import LaunchError, PeerError
from pipeline.launch.card import Card, Device, describe_device, fill_in
from pipeline.launch.judgement import judge_cards
from pipeline.launch.outer import Place, find_place
from pipeline.launch.preflight import Preflight
from pipeline.training.ranks.verdict import Verdict

if TYPE_CHECKING:
    from pipeline.training.ranks.meeting import Meeting

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RollCall:
    """A roll call that found all well.

    Attributes:
        meeting: the store of the run's ranks.
        line: what was found.
        warnings: lines to print.
    """

    meeting: "Meeting"
    line: str
    warnings: tuple[str, ...]

    def say(self) -> None:
        """Print it; the first rank does."""
        if self.meeting.rank == 0:
            _log.info("%s", self.line)
            for warning in self.warnings:
                _log.warning("warning: %s", warning)


def hold_roll_call(checked: Preflight) -> RollCall | None:
    """Hold the roll call of ranks that have just begun with the configuration of their run; None for a single one.

    Raises:
        LaunchError: as `call`.
        SystemExit: as `call`.
    """
    place = find_place()
    if place is None or checked.resources.world_size == 1:
        return None
    meeting = meet(place, checked.config.trainer.start_timeout_s)
    return call(meeting, place, checked.config, checked.resources.use_gpu)


def meet(place: Place, start_timeout_s: float) -> "Meeting":
    """Connect to the other ranks of a run.

    Args:
        place: of this process.
        start_timeout_s: how long to wait for rank 0.

    Raises:
        LaunchError: rank 0 is not there, or two processes have the same rank.
    """
    from pipeline.training.ranks.meeting import Meeting  # torch: a rank is about to train

    return Meeting.open(
        place.address,
        place.port,
        place.rank,
        place.world_size,
        served=place.served,
        prefix=f"euler/{place.attempt}",
        within_s=start_timeout_s,
    )


def call(meeting: "Meeting", place: Place, composed: Config, use_gpu: bool) -> RollCall:
    """Hold the roll call; every rank does, before anything that takes long.

    Args:
        meeting: from `meet`.
        place: of this process.
        composed: configuration as this rank composed or read it.
        use_gpu: one GPU per rank, or the CPU.

    Raises:
        LaunchError: a rank is missing or wrong; said by the ranks at fault and by the first of each host.
        SystemExit: likewise, on the other ranks.
    """
    from pipeline.training.ranks.first_contact import contact
    from pipeline.training.strategy import COLLECTIVE_TIMEOUT
    from pipeline.training.watch.records import arm_flight_recorder

    card = fill_in(place.rank, place.world_size, composed, describe_device(use_gpu, place.local_rank))
    found = _report(meeting, card, composed.trainer.start_timeout_s)
    refuse(found, place)
    if use_gpu:
        arm_flight_recorder()
    reached = contact(meeting, use_gpu, place.local_rank, card.name, COLLECTIVE_TIMEOUT)
    refuse(reached, place)
    return RollCall(meeting, found.line.format(contact=reached.line), (*found.warnings, *reached.warnings))


def excuse(meeting: "Meeting", place: Place, composed: Config, reason: str) -> None:
    """Tell the other ranks why this one cannot take part, so that none waits for it.

    Args:
        meeting: from `meet`.
        place: of this process.
        composed: configuration as this rank composed it.
        reason: what is wrong.
    """
    card = fill_in(place.rank, place.world_size, composed, Device("unknown"), reason)
    _report(meeting, card, composed.trainer.start_timeout_s)


def refuse(verdict: Verdict, place: Place) -> None:
    """End this rank if there are problems.

    Args:
        verdict: of rank 0.
        place: of this process.

    Raises:
        LaunchError: on the ranks at fault and the first of each host, which say why.
        PeerError: likewise, where ranks are missing and nothing else is wrong.
        SystemExit: on the others.
    """
    if not verdict.problems:
        return
    text = "roll call failed: " + "; and ".join(problem for _, problem in verdict.problems)
    error = PeerError(text) if verdict.is_loss else LaunchError(text)
    if place.local_rank == 0 or place.rank in {rank for rank, _ in verdict.problems}:
        raise error
    raise SystemExit(1) from error


def _report(meeting: "Meeting", card: Card, within_s: float) -> Verdict:
    def judge(told: dict[int, Any]) -> Verdict:
        cards = {rank: Card.read(fields) for rank, fields in told.items()}
        return judge_cards(cards, meeting.world_size, within_s)

    return meeting.council("cards", asdict(card), within_s, judge)

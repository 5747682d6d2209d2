"""One rank of a run that an outer launcher has started: rank 0 opens the run, the others learn from it which it is."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.config import compose
from pipeline.config.compose import Composition
from pipeline.config.schema import Config
from pipeline.data.lifeline import end_with_parent
from pipeline.errors import LaunchError, PeerError, PipelineError
from pipeline.launch import opening, preflight, roll_call
from pipeline.launch.directory import RunDirectory
from pipeline.launch.logs import configure_logging
from pipeline.launch.outer import Place
from pipeline.launch.preemption import stop_signals
from pipeline.launch.preflight import Preflight
from pipeline.launch.run import train
from pipeline.training.ranks.host import host_name
from pipeline.training.ranks.loss import is_loss
from pipeline.training.ranks.verdict import Verdict

if TYPE_CHECKING:
    from pipeline.training.ranks.meeting import Meeting

_SHOWN_S = 60.0  # for a shared file system to show a new directory to every host
_POLL_S = 0.5


def train_as_rank(place: Place, composition: Composition, lock_patience_s: float = 0.0) -> None:
    """Train as the rank that this process was started as.

    Args:
        place: of this process.
        composition: what Hydra composed, in this rank as in all others.
        lock_patience_s: how long to wait for a living process that trains in the run's directory.

    Raises:
        PipelineError: anything that the user can mend.
        SystemExit: the run was asked to stop, or another rank says why it ends.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a killed torchrun would leave its ranks behind
        end_with_parent(os.getppid())
    stop_signals.install(quiet=place.rank != 0, began_s=stop_signals.began_s)
    configure_logging(place.rank)
    composed = compose.settle(composition)
    meeting = roll_call.meet(place, composed.trainer.start_timeout_s)
    if place.rank == 0:
        _lead(meeting, place, composed, composition, lock_patience_s)
    else:
        _follow(meeting, place, composed)


def _lead(
    meeting: "Meeting", place: Place, composed: Config, composition: Composition, lock_patience_s: float
) -> None:
    """Train as rank 0, which alone decides, prepares the audio, and writes the records of the run."""
    with _promise(meeting, "decision"):
        decided = opening.decide(composed, composition)
    meeting.tell("decision", decided[0].config.model_dump(mode="json"))
    called = _answer(meeting, place, composed, decided[0])
    with ExitStack() as held:
        with _promise(meeting, "run"):
            checked, _ = held.enter_context(opening.opened(decided, composition, lock_patience_s))
        meeting.tell("run", checked.config.model_dump(mode="json"))
        _see_run(meeting, place, checked.config)
        train(checked, called)


def _follow(meeting: "Meeting", place: Place, composed: Config) -> None:
    """Train as another rank, in the run that rank 0 has opened."""
    wanted = _hear(meeting, place, "decision", composed.trainer.start_timeout_s)
    try:
        checked = preflight.check(compose.parse(wanted), frozenset())
    except PipelineError as error:
        roll_call.excuse(meeting, place, composed, f"{type(error).__name__}: {error}")
        raise
    called = _answer(meeting, place, composed, checked)
    config = compose.parse(_hear(meeting, place, "run", None))  # it may list and read millions of files first
    stop_signals.name_run(RunDirectory.of(config).path)
    _see_run(meeting, place, config)
    train(preflight.check(config, frozenset()), called)


def _answer(meeting: "Meeting", place: Place, composed: Config, checked: Preflight) -> roll_call.RollCall:
    # Lightning counts nodes by it; not every launcher sets it
    os.environ["NODE_RANK"] = str(place.rank // checked.resources.processes_per_node)
    return roll_call.call(meeting, place, composed, checked.resources.use_gpu)


@contextmanager
def _promise(meeting: "Meeting", key: str) -> Iterator[None]:
    """Tell the ranks that wait for `key` why it does not come, if it does not."""
    try:
        yield
    except BaseException as error:
        meeting.tell_last(key, {"end": _describe_end(error)})
        raise


def _describe_end(error: BaseException) -> dict[str, Any]:
    if isinstance(error, SystemExit):
        return {"code": error.code, "reason": "it was asked to stop", "is_loss": False}
    return {"code": 1, "reason": f"{type(error).__name__}: {error}", "is_loss": is_loss(error)}


def _hear(meeting: "Meeting", place: Place, key: str, within_s: float | None) -> dict[str, Any]:
    """Return what rank 0 has promised.

    Raises:
        LaunchError: it does not come, for the reason that rank 0 gives; said once on each host.
        PeerError: likewise, where rank 0 gives none or has lost another rank itself.
        SystemExit: it does not come.
    """
    told = meeting.ask(key, within_s)
    if told is None:
        raise PeerError(
            f"rank 0 at {meeting.address} has not decided within trainer.start_timeout_s={within_s:g} what to train"
        )
    if "end" not in told:
        return dict(told)
    code = told["end"]["code"]
    kind = PeerError if told["end"]["is_loss"] else LaunchError
    error = kind(f"rank 0 has ended: {told['end']['reason']}")
    if code == 1 and place.local_rank == 0:
        raise error
    raise SystemExit(code) from error


def _see_run(meeting: "Meeting", place: Place, config: Config) -> None:
    """Make sure that all ranks write to one place: rank 0 has just written `config.yaml` there.

    Raises:
        LaunchError: a host does not see it.
        SystemExit: likewise, on the other ranks.
    """
    run, deadline = RunDirectory.of(config), time.monotonic() + _SHOWN_S
    while not run.config_file.exists() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    report = None
    if not run.config_file.exists():
        report = (
            f"rank {place.rank} on {host_name()}: does not see run.dir={run.path}, which rank 0 has made; "
            "runs lie on a file system that all nodes share: set EULER_RUNS or run.dir"
        )
    verdict = meeting.council("sight", report, 2 * _SHOWN_S, _judge_sight)
    roll_call.refuse(verdict, place)


def _judge_sight(reports: dict[int, str | None]) -> Verdict:
    return Verdict([(rank, text) for rank, text in reports.items() if text is not None])

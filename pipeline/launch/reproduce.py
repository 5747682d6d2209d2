"""Whether a run can be had again: `python -m pipeline.launch.reproduce RUN`, `make reproduce RUN=DIR`.

Compares image, lock, packages, commit, configuration, first weights and data with what the run recorded, names the
first that differs, then trains the first steps again in a temporary directory and compares their losses bit for bit.
Nothing is written into the run. Exit code 0: identical; 1: not, or it cannot be told.
"""

import argparse
import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from pipeline.config.schema import Config
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch import resume
from pipeline.launch.lock import holder
from pipeline.launch.logs import configure_logging, writable
from pipeline.launch.provenance import PROVENANCE, hardware, read_provenance
from pipeline.launch.report import plain_errors
from pipeline.launch.reproduction import checks, recorded
from pipeline.launch.reproduction.data_check import check_data, usable_cache
from pipeline.launch.reproduction.finding import Finding, Verdict, was_is
from pipeline.launch.reproduction.recorded import Beginning
from pipeline.launch.reproduction.repeat import configuration, on_processes, repeat

_log = logging.getLogger(__name__)
_TOPICS = ("image", "lock", "packages", "commit", "config", "start", "data")
_STEPS = 20
_NO_RUN = "RUN=DIR is missing: make reproduce RUN=runs/NAME/DATE_TIME"
_MACHINE = {
    "cpu": "the CPU",
    "gpus": "the GPUs",
    "driver": "the driver",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "nccl": "NCCL",
}
"""What is told, and refused by nobody: bits may differ."""


def main() -> None:
    """Reproduce a run and say what came of it."""
    options = _read_options()
    with plain_errors():
        configure_logging()
        run_dir = _locate(Path(options.run))
        record = read_provenance(run_dir)
        if record is None:
            raise LaunchError(
                f"{run_dir / PROVENANCE}: damaged; without it nothing of the run can be checked"
            )
        try:
            recorded.check_shape(record)
        except LaunchError as error:
            raise LaunchError(f"{run_dir / PROVENANCE}: {error}") from None
        _say("run", str(run_dir))
        with tempfile.TemporaryDirectory(prefix="euler-reproduce-") as folder:
            is_identical = _reproduce(run_dir, record, options, Path(folder))
    sys.exit(0 if is_identical else 1)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.launch.reproduce",
        description="Check what a run was made of, train its first steps again, and compare the losses to the bit.",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", default="", help="run directory")
    parser.add_argument("--steps", type=_positive, default=_STEPS, metavar="N", help=f"steps ({_STEPS})")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where data.root of the run is now")
    parser.add_argument(
        "--ignore",
        type=_topics,
        default=frozenset(),
        metavar="TOPIC,...",
        help=f"go on although these differ: {', '.join(_TOPICS)}",
    )
    options = parser.parse_args()
    if not options.run.strip():  # else it were the folder that the command is given in
        parser.error(_NO_RUN)
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of steps is expected, 1 or more")
    return int(text)


def _topics(text: str) -> frozenset[str]:
    topics = frozenset(filter(None, text.split(",")))
    if unknown := topics - set(_TOPICS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: valid: {', '.join(_TOPICS)}")
    return topics


def _locate(path: Path) -> Path:
    """Return the run's directory, if nobody trains there.

    Raises:
        ConfigError: no run is there.
        LaunchError: it is being trained.
    """
    try:
        run_dir = resume.locate(path.expanduser().absolute())
    except ConfigError as error:
        text = str(error).replace("run.resume=", "RUN=").partition("; valid:")[0]
        raise ConfigError(
            f"{text}; valid: the directory of a run, which is printed at its start and end"
        ) from None
    owner = holder(run_dir)
    if owner is not None:
        raise LaunchError(f"{run_dir}: is being trained ({owner}); reproduce it when that has ended")
    return run_dir


def _reproduce(run_dir: Path, record: dict[str, Any], options: argparse.Namespace, folder: Path) -> bool:
    beginning = recorded.find_beginning(record)
    config: Config | None = None

    def checked_data() -> Finding:
        nonlocal config
        config = configuration(run_dir, beginning, options.data)
        data = config.data.model_copy(update={"cache_dir": str(usable_cache(config, folder / "cache"))})
        config = config.model_copy(update={"data": data})
        return check_data(run_dir, record, config)

    doubts = []
    for finding in _findings(run_dir, record, checked_data):
        if not _tell(finding, options.ignore):
            return False
        if finding.verdict is not Verdict.SAME:
            doubts.append(f"{finding.topic} {finding.verdict}")
    assert config is not None
    return _compare(run_dir, config, beginning, options.steps, folder, doubts)


def _findings(
    run_dir: Path, record: dict[str, Any], checked_data: Callable[[], Finding]
) -> Iterator[Finding]:
    yield checks.check_image(run_dir, record)
    yield checks.check_lock(run_dir, record)
    yield checks.check_packages(run_dir, record)
    yield checks.check_commit(run_dir, record)
    yield checks.check_config(run_dir, record)
    if (start := checks.check_start(run_dir, record)) is not None:
        yield start
    yield checked_data()


def _tell(finding: Finding, ignored: frozenset[str]) -> bool:
    """Say what a check has found; returns whether to go on."""
    is_ignored = finding.verdict is Verdict.DIFFERENT and not finding.is_final and finding.topic in ignored
    _say(finding.topic, f"{finding.verdict}{' (ignored)' if is_ignored else ''}: {finding.text}")
    for note in finding.notes:
        _say("", f"note: {note}")
    if finding.verdict is not Verdict.DIFFERENT or is_ignored:
        return True
    if finding.remedy:
        _say("", f"to have it again: {finding.remedy}")
    offer = "" if finding.is_final else f" (--ignore {finding.topic} goes on all the same)"
    _say("different", f"{finding.topic}: {finding.text}{offer}")
    return False


def _compare(
    run_dir: Path, config: Config, beginning: Beginning | None, steps: int, folder: Path, doubts: list[str]
) -> bool:
    losses = recorded.read_losses(run_dir)
    if beginning is None or not losses:
        why = "the run has not come so far, or its losses.jsonl is lost"
        if beginning is None:
            why = "the run was begun by an earlier version, which kept none"
        _say(
            "not known",
            f"no losses of the first steps are recorded ({why}): there is nothing to compare with",
        )
        return False
    if (lost := recorded.lost_steps(run_dir, losses)) is not None:
        _say("different", f"losses: {lost}")
        return False
    most = min(len(losses), beginning.comparable_steps or len(losses))
    if most < min(steps, len(losses)):
        _say(
            "",
            f"note: after step {most} the run went on with another {beginning.change}: compared up to there",
        )
    elif most < steps:
        _say("", f"note: {most} steps are recorded: all of them are compared")
    steps = min(steps, most)
    config, note = on_processes(config, beginning.attempt)
    for line in filter(None, (note, *_machine_notes(beginning.attempt), *_settings_notes(config))):
        _say("", f"note: {line}")
    _say("losses", f"training {steps} steps on {beginning.attempt['world_size']} process(es) again")
    difference = recorded.first_difference(losses[:steps], repeat(config, beginning.attempt, steps, folder))
    if difference is not None:
        _say("different", f"losses: {difference}")
        return False
    doubt = f" ({', '.join(doubts)})" if doubts else ""
    _say("identical", f"{steps} steps, each loss the same to the bit{doubt}")
    return True


def _machine_notes(attempt: Any) -> Iterator[str]:
    now = hardware()
    now["gpus"] = now["gpus"][: len(attempt["gpus"])]
    for key, name in _MACHINE.items():
        then = attempt.get(key)
        if (key != "driver" or attempt["gpus"]) and key in attempt and then != now[key]:
            yield f"{was_is(name, then or None, now[key] or None)}: bits may differ for this reason"


def _settings_notes(config: Config) -> Iterator[str]:
    if not config.trainer.deterministic:
        yield "trainer.deterministic=false: the run itself need not be the same twice"


def _say(topic: str, text: str) -> None:
    sys.stdout.write(writable(f"{topic:<11}{text}\n", sys.stdout))
    sys.stdout.flush()


class _Terminated:
    """Leaves at SIGTERM, so that the temporary directory goes too.

    Where the exit came while a library was at work, that may have made an error of its own of it.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        signal.signal(signal.SIGTERM, self._leave)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._number is not None:
            raise SystemExit(128 + self._number) from None

    def _leave(self, number: int, frame: FrameType | None) -> NoReturn:
        self._number = number
        raise SystemExit(128 + number)


if __name__ == "__main__":
    with _Terminated():
        main()

"""A launch: every point checked, what is new or unfinished submitted, a table of what was submitted."""

import logging
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config.compose import Composition
from pipeline.config.schema import RESUME_WORDS
from pipeline.errors import LaunchError
from pipeline.launch import resume
from pipeline.launch.logs import configure_logging
from pipeline.launch.preemption import ABORT_EXIT_CODE, stop_signals
from pipeline.launch.slurm import checks, cluster, snapshot, submission
from pipeline.launch.slurm.cluster import Cluster
from pipeline.launch.slurm.prepared import Prepared, prepare, refuse_shared_directories
from pipeline.launch.slurm.script import Script
from pipeline.launch.slurm.sweep import Planned, Sweep, find_home, home_of

_log = logging.getLogger(__name__)
_TO_SUBMIT = ("new", "unfinished")
_FATAL = ("Invalid", "invalid", "not permitted", "Unrecognized", "unrecognized", "Unknown", "violates")
Point = tuple[Composition, Mapping[str, Any]]


@dataclass(frozen=True)
class Origin:
    """Where a launch comes from.

    Attributes:
        home: folder of the sweep, as Hydra has composed it.
        is_home_given: whether the user has chosen it.
        is_basic: whether Hydra's plain sweeper asks, which needs no results.
        given: Hydra's own settings as the user wrote them.
    """

    home: Path
    is_home_given: bool
    is_basic: bool
    given: Sequence[str]


@dataclass(frozen=True)
class Batch:
    """Points that share a script.

    Attributes:
        script: theirs.
        points: with what becomes of them.
    """

    script: Script
    points: list[tuple[Planned, Prepared]]


def submit(points: Iterable[Point], origin: Origin) -> Path:
    """Submit the points of a sweep, or show what would be submitted.

    Returns:
        The folder of the sweep.

    Raises:
        PipelineError: anything that the user can mend; nothing was submitted, or the message says what was.
        SystemExit: with hydra.launcher.wait=true a job has failed; its exit code.
    """
    points = list(points)
    is_preview = points[0][1].get("dry_run") is True
    configure_logging(on_stderr=is_preview)
    _check_origin(points, origin)
    known = _ask_cluster(is_preview)
    prepared = list(prepare(points, known))
    refuse_shared_directories(prepared)
    home = _choose_home(prepared, origin)
    _check_places(prepared, home, known)
    for note in dict.fromkeys(note for point in prepared for note in point.notes):
        _log.info("note: %s", note)
    _try_out(prepared, home, known, is_preview)
    if is_preview:
        return home
    with Sweep.held(home) as sweep:
        jobs = _submit_batches(sweep, prepared)
    if prepared[0].settings.wait:
        _wait(sweep, jobs)
    return home


def _check_origin(points: Sequence[Point], origin: Origin) -> None:
    waits = all(launcher.get("wait") is True for _, launcher in points)
    if not (origin.is_basic or waits):
        raise LaunchError(
            "hydra/sweeper: this sweeper decides by the results of its jobs, and the launcher does not wait for them; "
            "set hydra.launcher.wait=true, or hydra/sweeper=basic"
        )
    for override in origin.given:
        if override.startswith("hydra.sweep.subdir="):
            raise LaunchError(
                f"{override}: the runs of a sweep on SLURM lie in numbered folders; leave it out, and choose the "
                "folder of all of them with hydra.sweep.dir=DIR"
            )


def _ask_cluster(is_preview: bool) -> Cluster | None:
    """Return what is known of the cluster; a preview needs none.

    Raises:
        LaunchError: there is none, or it does not answer.
    """
    if not cluster.has_sbatch():
        if is_preview:
            _log.info("no sbatch on this machine: partitions, limits and sizes are not checked")
            return None
        raise LaunchError(
            "hydra/launcher=submitit_slurm: no sbatch on this machine; submit from a login node of the cluster, look "
            "at the scripts with hydra.launcher.dry_run=true, or train here with hydra/launcher=basic"
        )
    try:
        return cluster.ask()
    except LaunchError as error:
        if not is_preview:
            raise
        _log.info("note: %s", error)
        return None


def _choose_home(prepared: Sequence[Prepared], origin: Origin) -> Path:
    """Return the folder of the sweep: a sweep that is launched again goes on in its own."""
    first = prepared[0]
    if origin.is_home_given:
        home = origin.home
    elif len(prepared) == 1 and first.wanted.directory is not None:
        home = home_of(first.wanted.directory) or first.wanted.directory
    else:
        found = None
        if not first.settings.fresh:
            found = find_home(origin.home.parent, [point.wanted.identity for point in prepared])
        home = found or origin.home
    used = next((path for path in (home / "sweep.json", home / "config.yaml") if path.exists()), None)
    if first.settings.fresh and used is not None:
        raise LaunchError(
            f"hydra.launcher.fresh=true: {home} is in use ({used.name}); choose a new folder, or leave out "
            "hydra.launcher.fresh to go on with what is unfinished there"
        )
    return home


def _check_places(prepared: Sequence[Prepared], home: Path, known: Cluster | None) -> None:
    """Refuse folders that the nodes would not see; without a cluster to ask, say so."""
    folders = {"hydra.sweep.dir": home}
    for point in prepared:
        chosen = {"run.dir": point.wanted.directory, "ckpt_dir": point.config.trainer.trainer.ckpt_dir}
        folders |= {key: Path(folder) for key, folder in chosen.items() if folder is not None}
    said = [text for key, folder in folders.items() if (text := checks.check_shared(key, folder))]
    if said and known is None:
        _log.warning("warning: %s", said[0])
    elif said and not cluster.is_this_host():
        raise LaunchError(said[0])


def _batches(planned: Sequence[Planned], prepared: Sequence[Prepared], home: Path) -> list[Batch]:
    """Put the points that are to be submitted together, where they ask for the same resources."""
    by_resources: dict[str, list[tuple[Planned, Prepared]]] = {}
    for plan in planned:
        point = next(point for point in prepared if point.wanted is plan.wanted)
        if plan.state in _TO_SUBMIT:
            by_resources.setdefault(point.resources, []).append((plan, point))
    batches = []
    for number, points in enumerate(by_resources.values(), _next_script(home)):
        first = points[0][1]
        script = Script(
            path=home / "scripts" / f"{number}.sh",
            home=home,
            code=snapshot.planned(home),
            runs=[plan.directory for plan, _ in points],
            settings=first.settings,
            site=first.config.site,
            shape=first.shape,
        )
        batches.append(Batch(script, points))
    return batches


def _next_script(home: Path) -> int:
    numbers = (path.stem for path in (home / "scripts").glob("*.sh"))
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def _try_out(prepared: Sequence[Prepared], home: Path, known: Cluster | None, is_preview: bool) -> None:
    """Ask the cluster whether it would take the scripts, before the first is submitted; a preview shows them.

    Raises:
        LaunchError: it would not.
    """
    planned = Sweep.open(home).plan([point.wanted for point in prepared])
    batches = _batches(planned, prepared, home)
    for plan in planned:
        if plan.state not in _TO_SUBMIT:
            _log.info("%s, not submitted: %s", plan.state, plan.directory)
    if not batches:
        _log.info("nothing to submit; hydra.launcher.fresh=true begins every run anew")
    if not is_preview:
        _check_begun(batches)
    for batch in batches:
        text = batch.script.text()
        if is_preview:
            _log.info("%s, %d job(s):", batch.script.path, len(batch.points))
            sys.stdout.write(text)
            sys.stdout.flush()
        if known is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder) / batch.script.path.name
            trial.write_text(text, encoding="utf-8")
            is_taken, words = cluster.try_out(trial)
        if is_preview:
            _log.info("sbatch --test-only: %s", words)
        if not is_taken and any(sign in words for sign in _FATAL):
            raise LaunchError(f"sbatch would refuse these jobs: {words}; {_remedy(words)}")


def _check_begun(batches: Sequence[Batch]) -> None:
    """Refuse to go on with a run as another one; what a run may change is said.

    Raises:
        ConfigError: a run directory holds another run.
    """
    for plan, point in (pair for batch in batches for pair in batch.points):
        is_there = (plan.directory / "config.yaml").is_file()
        if is_there and point.checked.run.resume in RESUME_WORDS:
            resume.change(plan.directory, point.checked, None)


def _remedy(words: str) -> str:
    if "account" in words.lower():
        return (
            "set hydra.launcher.account or site.account; `sacctmgr show associations user=$USER` shows yours, and for "
            "which partitions"
        )
    if "qos" in words.lower():
        return "set hydra.launcher.qos or site.qos; `sacctmgr show associations user=$USER format=qos` shows yours"
    if "feature" in words.lower():
        return "set hydra.launcher.constraint or site.constraint; `sinfo -o '%P %f'` shows what there is"
    return "hydra.launcher.dry_run=true shows the script"


def _submit_batches(sweep: Sweep, prepared: Sequence[Prepared]) -> list[str]:
    """Submit what is new or unfinished, say what was submitted, and return the names of the jobs."""
    planned = sweep.plan([point.wanted for point in prepared])
    batches = _batches(planned, prepared, sweep.home)
    stop_signals.defer("what is being submitted is recorded first")
    jobs, rows = [], []
    for batch in batches:
        script = batch.script
        snapshot.take(sweep.home)
        for plan, point in batch.points:
            submission.write(plan.directory, replace(point.composition, sweep_dir=plan.directory))
        for folder in (script.path.parent, script.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        script.path.write_text(script.text(), encoding="utf-8")
        number = cluster.submit(script.path)
        for task, (plan, point) in enumerate(batch.points):
            job = f"{number}_{task}" if len(batch.points) > 1 else number
            sweep.record(plan, job, script.path, script.log_of(job))
            jobs.append(job)
            rows.append((job, point.composition.overrides, plan.directory, script.log_of(job)))
        sweep.save()
        if stop_signals.received:
            break
    if batches:
        _say(rows)
    if stop_signals.received:
        raise SystemExit(ABORT_EXIT_CODE)
    return jobs


def _say(rows: Sequence[tuple[str, Sequence[str], Path, str]]) -> None:
    """Print the table of what was submitted; overrides that all points share stand above it."""
    shared = [word for word in rows[0][1] if all(word in row[1] for row in rows)] if len(rows) > 1 else []
    if shared:
        _log.info("all with %s", " ".join(shared))
    lines = [("job", "overrides", "run directory", "log")]
    for job, overrides, directory, log in rows:
        own = " ".join(word for word in overrides if word not in shared)
        lines.append((job, own or "-", str(directory), log))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        _log.info("%s", "  ".join(map(str.ljust, line, widths)).rstrip())


def _wait(sweep: Sweep, jobs: list[str]) -> None:
    from pipeline.launch.slurm import wait

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    code = wait.watch(sweep, jobs)
    if code:
        raise SystemExit(code)

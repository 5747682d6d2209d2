"""A launch: every point checked, what is new or unfinished submitted, a table of what was submitted."""

import logging
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config.compose import Composition
from pipeline.errors import LaunchError
from pipeline.launch.logs import configure_logging
from pipeline.launch.preemption import ABORT_EXIT_CODE, stop_signals
from pipeline.launch.slurm import checks, cluster, elsewhere, images, snapshot, submission, turn
from pipeline.launch.slurm.batches import TO_SUBMIT, Batch, make_batches, try_out
from pipeline.launch.slurm.cli import text_table
from pipeline.launch.slurm.cluster import Cluster
from pipeline.launch.slurm.prepared import Prepared, prepare, refuse_shared_directories
from pipeline.launch.slurm.sweep import ACTIVE, RECORD, Planned, Sweep, find_home, home_of

_log = logging.getLogger(__name__)
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
    if not is_preview:
        prepared = elsewhere.check_whole(prepared)
    for note in dict.fromkeys(note for point in prepared for note in point.notes):
        _log.info("note: %s", note)
    if is_preview:
        _preview(Sweep.open(home), prepared, known)
        return home
    _check_all(Sweep.open(home), prepared)
    with _turn(prepared, origin):
        now = _choose_home(prepared, origin)
        if now != home:  # a launch of the same points, a moment ago
            _check_all(Sweep.open(now), prepared)
        with _nothing_left(now), Sweep.held(now) as sweep:
            jobs = _submit_all(sweep, prepared)
    if prepared[0].settings.wait and jobs:
        _wait(sweep, jobs)
    return sweep.home


def _turn(prepared: Sequence[Prepared], origin: Origin) -> AbstractContextManager[None]:
    """Hold the folder in which a launch looks for its sweep, or two at one time would both find none."""
    chosen = origin.is_home_given or (len(prepared) == 1 and prepared[0].wanted.directory is not None)
    return nullcontext() if chosen else turn.held(origin.home.parent)


@contextmanager
def _nothing_left(home: Path) -> Iterator[None]:
    """Remove a sweep that begins, if the cluster takes none of its jobs."""
    begins = not home.exists()
    try:
        yield
    except cluster.SbatchRefusal:
        if begins and not (home / RECORD).exists():
            shutil.rmtree(home)
        raise


def _check_origin(points: Sequence[Point], origin: Origin) -> None:
    waits = all(launcher.get("wait") is True for _, launcher in points)
    if not (origin.is_basic or waits):
        raise LaunchError(
            "hydra/sweeper: this sweeper decides by the results of its jobs, and the launcher does not wait for them; "
            "set hydra.launcher.wait=true, or hydra/sweeper=basic"
        )
    for override in origin.given:
        if override.startswith("hydra.sweep.dir=") and not override.partition("=")[2].strip("'\""):
            raise LaunchError(f"{override}: no folder; give the sweep one, or leave it out")
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
    if not str(home).isprintable():
        raise LaunchError(
            f"{str(home)!r}: sbatch takes no line breaks in the path of a sweep; choose another EULER_RUNS, run.name "
            "or hydra.sweep.dir"
        )
    chosen = [
        (key, folder)
        for point in prepared
        for key, folder in (
            ("run.dir", point.wanted.directory),
            ("trainer.trainer.ckpt_dir", point.config.trainer.trainer.ckpt_dir),
        )
    ]
    folders = dict.fromkeys((key, Path(folder)) for key, folder in chosen if folder is not None)
    said = [
        text
        for key, folder in (*folders, ("hydra.sweep.dir", home))
        if (text := checks.check_shared(key, folder)) is not None
    ]
    for image in dict.fromkeys(point.config.container.image for point in prepared):
        if image is not None:
            text = checks.check_shared("container.image", Path(image), "copy it to the shared file system")
            said += [] if text is None else [text]
    if said and known is None:
        _log.warning("warning: %s", said[0])
    elif said and not cluster.is_this_host():
        raise LaunchError(said[0])


def _preview(sweep: Sweep, prepared: Sequence[Prepared], known: Cluster | None) -> None:
    """Show what would be submitted: the scripts alone on standard output."""
    planned = sweep.plan([point.wanted for point in prepared])
    elsewhere.say_what_is_left(prepared, any(plan.state in TO_SUBMIT for plan in planned))
    _say_what_stays(planned)
    for batch in make_batches(planned, prepared, sweep.home, snapshot.planned(sweep.home)):
        text = batch.script.text()
        _log.info("%s, %d job(s):", batch.script.path, len(batch.points))
        sys.stdout.write(text)
        sys.stdout.flush()
        if known is not None:
            _log.info("sbatch --test-only: %s", try_out(text))


def _check_all(sweep: Sweep, prepared: Sequence[Prepared]) -> None:
    """Find out what the cluster or a run directory would refuse, before the first job is submitted."""
    planned = sweep.plan([point.wanted for point in prepared])
    for batch in make_batches(planned, prepared, sweep.home, snapshot.planned(sweep.home)):
        batch.check_begun()
        try_out(batch.script.text())


def _submit_all(sweep: Sweep, prepared: Sequence[Prepared]) -> list[str]:
    """Submit what is new or unfinished, say what was submitted, and return the jobs of all points under way."""
    planned = sweep.plan([point.wanted for point in prepared])
    _say_what_stays(planned)
    jobs = [plan.job for plan in planned if plan.state == ACTIVE and plan.job is not None]
    batches = make_batches(planned, prepared, sweep.home, snapshot.take(sweep.home))
    stop_signals.defer("what is being submitted is recorded first")
    rows: list[tuple[str, ...]] = []
    try:
        for batch in batches:
            rows += _submit_batch(sweep, batch)
            if stop_signals.received:
                raise SystemExit(ABORT_EXIT_CODE)
    finally:
        _say_what_was_submitted(rows)
    return [*jobs, *(row[0] for row in rows)]


def _submit_batch(sweep: Sweep, batch: Batch) -> list[tuple[str, ...]]:
    """Submit the points of one script; return job, overrides, run directory and log of each."""
    script = batch.script
    for plan, point in batch.points:
        submission.write(plan.directory, replace(point.composition, sweep_dir=plan.directory))
        images.record(plan.directory, script.inside)
    for folder in (script.path.parent, script.log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    script.path.write_text(script.text(), encoding="utf-8")
    number = cluster.submit(script.path)
    rows: list[tuple[str, ...]] = []
    for task, (plan, _) in enumerate(batch.points):
        job = f"{number}_{task}" if len(batch.points) > 1 else number
        sweep.record(plan, job, script.path, script.log_of(job))
        rows.append((job, " ".join(plan.wanted.overrides), str(plan.directory), script.log_of(job)))
    sweep.save()
    return rows


def _say_what_stays(planned: Sequence[Planned]) -> None:
    for plan in planned:
        if plan.state not in TO_SUBMIT:
            job = f" (job {plan.job})" if plan.state == ACTIVE else ""
            _log.info("%s, not submitted: %s%s", plan.state, plan.directory, job)
    if not any(plan.state in TO_SUBMIT for plan in planned):
        _log.info("nothing to submit; hydra.launcher.fresh=true begins every run anew")


def _say_what_was_submitted(rows: Sequence[tuple[str, ...]]) -> None:
    """Print the table; overrides that all points share stand above it."""
    if not rows:
        return
    words = [row[1].split(" ") for row in rows]
    shared = [word for word in words[0] if len(rows) > 1 and all(word in own for own in words)]
    if shared:
        _log.info("all with %s", " ".join(shared))
    own = [" ".join(word for word in each if word not in shared) for each in words]
    lines = [(job, *places, text) for (job, _, *places), text in zip(rows, own, strict=True)]
    for line in text_table(("job", "run directory", "log", "overrides"), lines):
        _log.info("%s", line)


def _wait(sweep: Sweep, jobs: Sequence[str]) -> None:
    from pipeline.launch.slurm import wait

    code = wait.watch(sweep, jobs)
    if code:
        raise SystemExit(code)

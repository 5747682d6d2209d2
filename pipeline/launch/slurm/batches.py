"""Points that are submitted together: one batch script, and as many tasks of an array."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import RESUME_WORDS
from pipeline.errors import LaunchError
from pipeline.launch import resume
from pipeline.launch.slurm import cluster
from pipeline.launch.slurm.enclosure import enclosure
from pipeline.launch.slurm.prepared import Prepared
from pipeline.launch.slurm.script import Script
from pipeline.launch.slurm.sweep import NEW, UNFINISHED, Planned

TO_SUBMIT = (NEW, UNFINISHED)
_FATAL = (  # not a configuration that is not available: nodes that are down are such
    *("Invalid", "invalid", "not permitted", "Unrecognized", "unrecognized", "Unknown", "violates"),
    *(
        "fatal:",
        "ambiguous",
        "an argument",
        "cannot be satisfied",
        "can not be satisfied",
        "ependency problem",
    ),
)


@dataclass(frozen=True)
class Batch:
    """Points that share a script.

    Attributes:
        script: theirs.
        points: with what becomes of them.
    """

    script: Script
    points: list[tuple[Planned, Prepared]]

    def check_begun(self) -> None:
        """Refuse to go on with a run as another one; what a run may change is said.

        Raises:
            ConfigError: a run directory holds another run.
        """
        for plan, point in self.points:
            is_there = (plan.directory / "config.yaml").is_file()
            if is_there and point.checked.run.resume in RESUME_WORDS:
                resume.change(plan.directory, point.checked, None)


def make_batches(
    planned: Sequence[Planned], prepared: Sequence[Prepared], home: Path, code: Path
) -> list[Batch]:
    """Put the points that are to be submitted together, where they ask for the same resources.

    Args:
        planned: what becomes of the points.
        prepared: all points of the launch.
        home: folder of the sweep.
        code: folder of the code snapshot.
    """
    by_resources: dict[str, list[tuple[Planned, Prepared]]] = {}
    for plan in planned:
        point = next(point for point in prepared if point.wanted is plan.wanted)
        if plan.state in TO_SUBMIT:
            by_resources.setdefault(point.resources, []).append((plan, point))
    batches = []
    for number, points in enumerate(by_resources.values(), _next_script(home)):
        first = points[0][1]
        script = Script(
            path=home / "scripts" / f"{number}.sh",
            home=home,
            code=code,
            runs=[plan.directory for plan, _ in points],
            settings=first.settings,
            site=first.config.site,
            shape=first.shape,
            inside=enclosure(
                [point.config for _, point in points], [home, *(plan.directory for plan, _ in points)]
            ),
        )
        batches.append(Batch(script, points))
    return batches


def _next_script(home: Path) -> int:
    numbers = (path.stem for path in (home / "scripts").glob("*.sh"))
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1


def try_out(text: str) -> str:
    """Ask the cluster whether it would take a script, and return its words.

    Raises:
        LaunchError: it would refuse it at any time; that it is busy or down now is no reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sh"
        script.write_text(text, encoding="utf-8")
        is_taken, words = cluster.try_out(script)
    if not is_taken and any(sign in words for sign in _FATAL):
        raise LaunchError(f"sbatch would refuse these jobs: {words}; {cluster.remedy(words)}")
    return words

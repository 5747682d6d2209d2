"""One point of a sweep: a run and the jobs that were submitted for it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Submitted:
    """One submission of a point.

    Attributes:
        job: `12`, or `12_3` for a task of an array.
        script: the batch script.
        log: what the job writes to.
    """

    job: str
    script: Path
    log: str


@dataclass
class Point:
    """One run of a sweep.

    Attributes:
        number: within the sweep; its directory bears it as a name, unless the user has chosen one.
        directory: the run directory.
        overrides: that make this point, as written.
        identity: of its configuration, from `identity_of`.
        horizon: how far it is to go, from `horizon_of`.
        submissions: oldest first.
    """

    number: int
    directory: Path
    overrides: tuple[str, ...]
    identity: str
    horizon: dict[str, Any]
    submissions: list[Submitted] = field(default_factory=list)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Names of the jobs, oldest first."""
        return tuple(submission.job for submission in self.submissions)

    @classmethod
    def read(cls, home: Path, entry: dict[str, Any]) -> "Point":
        """Return a point as `entry` has written it.

        Args:
            home: the sweep's folder, wherever it lies now.
            entry: plain data.
        """
        jobs = [Submitted(job["job"], home / job["script"], str(home / job["log"])) for job in entry["jobs"]]
        directory, overrides = home / entry["directory"], tuple(entry["overrides"])
        return cls(entry["number"], directory, overrides, entry["identity"], entry["horizon"], jobs)

    def entry(self, home: Path) -> dict[str, Any]:
        """Return the point as plain data; what lies in the sweep's folder is written as it lies in it."""
        jobs = [
            {"job": each.job, "script": _within(home, each.script), "log": _within(home, Path(each.log))}
            for each in self.submissions
        ]
        return {
            "number": self.number,
            "directory": _within(home, self.directory),
            "overrides": list(self.overrides),
            "identity": self.identity,
            "horizon": self.horizon,
            "jobs": jobs,
        }


def _within(home: Path, path: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)

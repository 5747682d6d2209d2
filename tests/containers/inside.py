"""Commands inside an image: as an ordinary user, on a root that is read-only, without network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.containers.workplace import Workplace

UNKNOWN_USER = "12345:12345"  # no line in any passwd


class Inside(Protocol):
    """An image, and how commands run in it."""

    workplace: Workplace

    def __call__(self, *command: str, folder: Path, environment: Mapping[str, str] = ...) -> str:
        """Run a command with `folder` mounted at its own path; return what it wrote."""
        ...


@dataclass(frozen=True)
class InDocker:
    """In a Docker image, as a user that nobody knows."""

    workplace: Workplace
    image: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *command: str, folder: Path, environment: Mapping[str, str] = {}) -> str:  # noqa: B006
        settings = [
            part for pair in (self.environment | environment).items() for part in ("--env", "=".join(pair))
        ]
        sandbox = ["--rm", "--network=none", "--read-only", "--tmpfs", "/tmp:exec", "--user", UNKNOWN_USER]
        mounts = ["--volume", f"{folder}:{folder}", "--shm-size", "1g"]
        docker = [*self.workplace.docker, "run", *sandbox, *mounts, *settings]
        return self.workplace.run(*docker, self.image, *command)


@dataclass(frozen=True)
class InApptainer:
    """In a SIF, which is read-only by itself, without the home and the environment of the user."""

    workplace: Workplace
    image: Path
    binds: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *command: str, folder: Path, environment: Mapping[str, str] = {}) -> str:  # noqa: B006
        binds = [part for bind in (str(folder), *self.binds) for part in ("--bind", bind)]
        settings = [
            part for pair in (self.environment | environment).items() for part in ("--env", "=".join(pair))
        ]
        sandbox = ["--containall", "--no-home", "--pwd", "/opt/euler"]
        apptainer = ["apptainer", "--silent", "exec", *sandbox, *binds, *settings]
        return self.workplace.as_user(*apptainer, self.image, *command, network=False)


def facts(inside: Inside, folder: Path) -> dict[str, str]:
    """Return what the image says that it is."""
    return json.loads(inside("cat", "/opt/euler/image.json", folder=folder))

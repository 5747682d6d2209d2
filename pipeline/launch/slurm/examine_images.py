"""What `make doctor` asks of images: what runs them here, and what would slow that down."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.launch.slurm.finding import NOTE, OK, Finding, ask

_NONE = (
    "only container.image=... and docker run need one; on a cluster, load its Apptainer module, or name the program "
    "with container.executable"
)


def images(fuse: Path = Path("/dev/fuse")) -> Iterator[Finding]:
    """Look for Apptainer (or Singularity) and Docker.

    Args:
        fuse: by which a user's Apptainer holds an image open.
    """
    found = [name for name in ("apptainer", "singularity") if shutil.which(name)]
    docker = shutil.which("docker")
    if not found and docker is None:
        yield Finding(NOTE, "no Apptainer and no Docker here", _NONE)
    for name in found[:1]:
        version = _first_line(name, "--version")
        if version is None:
            yield Finding(NOTE, f"{name}: does not run", f"{name} --version says why")
            continue
        yield Finding(OK, version)
        if not os.access(fuse, os.R_OK | os.W_OK):
            yield Finding(
                NOTE,
                f"{fuse} is not open to you: each task may unpack its image anew, which takes minutes",
                "ask the administrator for it, or for Apptainer with its setuid starter",
            )
    if docker is not None:
        version = _first_line("docker", "version", "--format={{.Server.Version}}")
        if version is None:
            yield Finding(
                NOTE, "docker: no engine answers", "docker version says why; it may need a group or root"
            )
        else:
            yield Finding(OK, f"docker, engine {version}")


def _first_line(*command: str) -> str | None:
    """Return the first line that a command prints, None where there is none."""
    return (ask(*command) or "").partition("\n")[0].strip() or None

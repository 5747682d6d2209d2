"""The image that jobs are to run in, looked at before anything is submitted: there, readable, and of the same lock."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path

from pipeline.config.atomic import write_text
from pipeline.config.container_schema import ContainerSettings
from pipeline.errors import LaunchError
from pipeline.launch.provenance import ROOT
from pipeline.launch.slurm import failure
from pipeline.launch.slurm.enclosure import Enclosure, executable_of

LOCK_NAME, LOCK_DIGEST = "euler.lock.name", "euler.lock"
"""Labels of an image: what it was installed from."""

_COMPOSING = ("hydra-core", "omegaconf", "pydantic")
"""What composes and checks a configuration: another version might understand it otherwise."""

_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
_PATIENCE_S = 120.0
_RECORD = "image"


def check_file(settings: ContainerSettings) -> Path:
    """Return the image's file.

    Raises:
        LaunchError: there is none, or it cannot be read.
    """
    assert settings.image is not None
    path = Path(settings.image)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise LaunchError(
            f"container.image={path}: {found}; valid: an Apptainer image, a .sif file: `make sif` builds one"
        )
    if not os.access(path, os.R_OK):
        raise LaunchError(f"container.image={path}: no permission to read it; ask its owner (chmod a+r)")
    return path


def check_image(settings: ContainerSettings) -> None:
    """Refuse an image that jobs could not run in, or that has other packages than this checkout expects.

    Raises:
        LaunchError: with the remedy.
    """
    path = check_file(settings)
    labels = _labels(path, _program(settings))
    name, digest = labels.get(LOCK_NAME), labels.get(LOCK_DIGEST)
    if not name or not digest:
        raise LaunchError(
            f"container.image={path}: has no label {LOCK_DIGEST}, so it is no image of this project; "
            "`make sif` builds one"
        )
    lock = ROOT / "containers" / Path(name).name
    if not lock.is_file():
        raise LaunchError(
            f"container.image={path}: was built from {name}, which this checkout does not have; {_remedy(labels)}"
        )
    text = lock.read_bytes()
    if sha256(text).hexdigest() != digest.removeprefix("sha256:"):
        raise LaunchError(
            f"container.image={path}: was built from another containers/{lock.name} than this checkout has; "
            f"{_remedy(labels)}"
        )
    _check_here(lock.name, text.decode("utf-8"))


def _remedy(labels: Mapping[str, str]) -> str:
    revision = labels.get("org.opencontainers.image.revision")
    former = f", or check out {revision}, which it was built from" if revision else ""
    return f"build the image anew (make sif){former}"


def _program(settings: ContainerSettings) -> str:
    program = shutil.which(executable_of(settings.executable))
    if program is None:
        raise LaunchError(
            f"container.executable={settings.executable}: no such program here; load its module, give its absolute "
            "path, or submit from a machine that has it: the configuration is checked in the image before jobs start"
        )
    return program


def _labels(path: Path, program: str) -> dict[str, str]:
    """Return the labels of an image."""
    command = [program, "inspect", "--json", "--labels", str(path)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"container.image={path}: {program} inspect: {error}") from None
    said = ended.stderr.strip().splitlines()
    if ended.returncode != 0:
        raise LaunchError(
            f"container.image={path}: is no image that {Path(program).name} can read "
            f"({said[-1] if said else f'it ended with {ended.returncode}'}); `make sif` builds one"
        )
    try:
        found = json.loads(ended.stdout)["data"]["attributes"]["labels"] or {}
    except (ValueError, KeyError, TypeError):
        raise LaunchError(f"container.image={path}: {program} inspect says nothing of its labels") from None
    return {str(name): str(value) for name, value in found.items()}


def _check_here(lock: str, text: str) -> None:
    """Refuse to compose with other versions than the jobs will."""
    pins = {pin["name"].lower(): pin["version"] for pin in _PIN.finditer(text)}
    for name, version in _composing():
        if pins.get(name, version) != version:
            raise LaunchError(
                f"{name} {version} is installed here, and containers/{lock}, from which the image was built, has "
                f"{pins[name]}: both must read the configuration alike; `make env-submit` installs it"
            )


def _composing() -> Iterator[tuple[str, str]]:
    for name in _COMPOSING:
        yield name, importlib.metadata.version(name)


def record(run_dir: Path, inside: Enclosure | None) -> None:
    """Write down which image a run is submitted with: its digest, and by what to see quickly that it is the same.

    Args:
        run_dir: of the run.
        inside: its image; None for none, then an earlier record goes.
    """
    path = failure.job_folder(run_dir) / _RECORD
    if inside is None:
        path.unlink(missing_ok=True)
        return
    facts = inside.image.stat()
    line = f"{_digest(inside.image, facts.st_mtime_ns)} {facts.st_size} {int(facts.st_mtime)}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, line)


@cache
def _digest(path: Path, mtime_ns: int) -> str:  # some gigabytes, and one image serves many runs
    with path.open("rb") as file:
        return f"sha256:{file_digest(file, 'sha256').hexdigest()}"

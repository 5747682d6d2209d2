"""The full check of a launch's points where the jobs' packages are: a login node often has no torch."""

import json
import logging
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline import errors
from pipeline.config import schema
from pipeline.config.container_schema import ContainerSettings
from pipeline.config.launcher_schema import LauncherSettings
from pipeline.config.schema import RESUME_WORDS
from pipeline.errors import LaunchError
from pipeline.launch.provenance import ROOT
from pipeline.launch.slurm import images
from pipeline.launch.slurm.enclosure import executable_of, user_arguments
from pipeline.launch.slurm.prepared import Prepared, trains_here
from pipeline.launch.slurm.script import python_of

_log = logging.getLogger(__name__)
_MODULE = "pipeline.launch.slurm.check_points"
_PATIENCE_S = 600.0
_MOST_LINES = 5
_NO_TORCH = (
    "no torch is installed here, so jobs could not train with this interpreter; give them an image "
    "(container.image=FILE.sif), another interpreter (hydra.launcher.python=PATH), or install the whole "
    "environment (make env)"
)


def say_what_is_left(points: Sequence[Prepared], is_submitting: bool) -> None:
    """Say what a submission would refuse, and what a preview has not looked at: it runs no image.

    Args:
        points: of the launch.
        is_submitting: whether a job of any of them would be submitted.
    """
    for container in {point.config.container.image: point.config.container for point in points}.values():
        if container.image is None:
            continue
        try:
            images.check_file(container)
        except LaunchError as error:
            _log.info("note: %s", error)
        if is_submitting:
            _log.info(
                "not checked by a preview: container.image=%s, and the configuration in it", container.image
            )
    if any(_lacks_torch(point) for point in points):
        _log.info("note: %s", _NO_TORCH)


def _lacks_torch(point: Prepared) -> bool:
    return (
        point.config.container.image is None
        and point.settings.python is None
        and not trains_here(point.config)
    )


def check_whole(points: Sequence[Prepared]) -> list[Prepared]:
    """Return the points, checked with all that torch knows: those with an image in it, in one go for each image.

    Raises:
        PipelineError: anything that the user can mend.
    """
    found = list(points)
    groups: dict[str, list[int]] = {}
    for index, point in enumerate(points):
        if not trains_here(point.config):
            groups.setdefault(repr((point.config.container, point.settings.python)), []).append(index)
    for indices in groups.values():
        for index, checked in zip(indices, _check([points[index] for index in indices]), strict=True):
            found[index] = checked
    return found


def _check(points: Sequence[Prepared]) -> Iterator[Prepared]:
    container, settings = points[0].config.container, points[0].settings
    if container.image is not None:
        images.check_image(container)
        _log.info("checking the configuration in %s", container.image)
    elif settings.python is None:
        raise LaunchError(_NO_TORCH)
    request = [
        {
            "config": point.config.model_dump(),
            "given": sorted(point.composition.given) if point.config.run.resume in RESUME_WORDS else [],
        }
        for point in points
    ]
    answers = _ask(_command(container, settings), request, container, settings)
    for point, answer in zip(points, answers, strict=True):
        notes = tuple(note for note in answer["notes"] if note not in point.notes)
        yield replace(point, checked=schema.parse(answer["config"]), notes=(*point.notes, *notes))


def _command(container: ContainerSettings, settings: LauncherSettings) -> list[str]:
    python = python_of(settings, is_inside=container.image is not None)
    inner = [python, "-m", _MODULE]
    if container.image is None:
        return inner
    return ["bash", str(ROOT / "slurm" / "in_image.sh"), "-", *user_arguments(container), "--", *inner]


def _ask(
    command: Sequence[str], request: Any, container: ContainerSettings, settings: LauncherSettings
) -> list[dict[str, Any]]:
    """Run the check and return what it has found of each point."""
    environment = os.environ | {"EULER_CODE": str(ROOT), "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    key = f"hydra.launcher.python={settings.python}"
    if container.image is not None:
        key = f"container.image={container.image}"
        program = executable_of(container.executable)
        environment |= {"EULER_IMAGE": container.image, "EULER_APPTAINER": program}
    try:
        ended = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{key}: {error}") from None
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        said = "\n".join(ended.stderr.strip().splitlines()[-_MOST_LINES:])
        raise LaunchError(
            f"{key}: the configuration cannot be checked there ({shlex.join(command[:3])} ... ended with "
            f"{ended.returncode}):\n{said}"
        ) from None
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    points: list[dict[str, Any]] = answer["points"]
    return points

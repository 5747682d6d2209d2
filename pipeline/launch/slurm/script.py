"""The batch script of jobs: a header in SLURM's words, the site's lines, and the few lines that start a run.

Nothing in it depends on the time: a preview shows the very bytes that are submitted.
"""

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.launcher_schema import LauncherSettings
from pipeline.config.site_schema import SiteSettings
from pipeline.launch.slurm.cluster import count_gpus
from pipeline.launch.slurm.enclosure import Enclosure
from pipeline.launch.slurm.shape import Shape


@dataclass(frozen=True)
class Script:
    """What a batch script is made of.

    Attributes:
        path: where it lies, absolute.
        home: folder of the sweep.
        code: folder of the code snapshot.
        runs: run directories, one for each task of the array.
        settings: of the launcher.
        site: the cluster.
        shape: what each job asks for.
        inside: the image that the tasks run in; None: in none.
    """

    path: Path
    home: Path
    code: Path
    runs: Sequence[Path]
    settings: LauncherSettings
    site: SiteSettings
    shape: Shape
    inside: Enclosure | None = None

    @property
    def log(self) -> Path:
        """File of a job's output, in SLURM's pattern."""
        return self.home / "logs" / ("%A_%a.log" if len(self.runs) > 1 else "%j.log")

    def log_of(self, job: str) -> str:
        """Return the file of the output of a job, `12` or `12_3` for a task of an array."""
        return str(self.home / "logs" / f"{job}.log")

    def text(self) -> str:
        """Return the whole script."""
        return "\n".join(
            ["#!/bin/bash", *self._header(), "", *_prologue(self.site, self.settings), *self._body(), ""]
        )

    def _header(self) -> list[str]:
        """Return the options of sbatch, as submitit translates them."""
        from submitit.slurm.slurm import _convert_mem, _make_sbatch_string

        settings, shape = self.settings, self.shape
        asked: dict[str, Any] = {
            "job_name": settings.name,
            "partition": settings.partition,
            "account": settings.account,
            "qos": settings.qos,
            "constraint": settings.constraint,
            "exclude": settings.exclude,
            "comment": settings.comment,
            "time": settings.timeout_min,
            "nodes": shape.nodes,
            "ntasks_per_node": shape.tasks_per_node,
            "cpus_per_task": shape.cpus_per_task,
            "gres": shape.gres,
            "mem": None if settings.mem_gb is None else _convert_mem(settings.mem_gb),
            "mem_per_cpu": settings.mem_per_cpu,
            "mem_per_gpu": settings.mem_per_gpu,
            "array_parallelism": settings.array_parallelism,
            "map_count": len(self.runs) if len(self.runs) > 1 else None,
            "stderr_to_stdout": settings.stderr_to_stdout,
            "additional_parameters": self._additional(),
            "wckey": None,
        }
        if shape.gpus_per_node and not count_gpus(shape.gres):
            asked["gpus_per_node"] = shape.gpus_per_node
        text = _make_sbatch_string(command="", folder=self.home, use_srun=False, **asked)
        return [line for line in text.splitlines() if line.startswith("#SBATCH ")]

    def _additional(self) -> dict[str, Any]:
        settings, log = (
            self.settings,
            str(self.log).replace(str(self.home), str(self.home).replace("%", "%%")),
        )
        given = additional_parameters(self.site, settings)
        own: dict[str, Any] = {
            "output": log,
            "signal": f"USR2@{settings.signal_delay_s}",
            "requeue" if self.site.requeue else "no_requeue": True,
        }
        if not settings.stderr_to_stdout:
            own["error"] = log.removesuffix(".log") + ".err"
        if settings.cpus_per_gpu is not None:
            own["cpus_per_gpu"] = settings.cpus_per_gpu
        return {**given, **own}

    def _body(self) -> Iterator[str]:
        yield "# the runs, by SLURM_ARRAY_TASK_ID"
        yield "runs=("
        yield from (f"  {shlex.quote(str(run))}" for run in self.runs)
        yield ")"
        variables = {
            "EULER_PYTHON": python_of(self.settings, is_inside=self.inside is not None),
            "EULER_IMAGE": "" if self.inside is None else str(self.inside.image),
            "EULER_CODE": str(self.code),
            "EULER_SCRIPT": str(self.path),
            "EULER_COMEBACK": "requeue" if self.site.requeue else "chain",
            "EULER_MAX_RESTARTS": str(self.settings.max_restarts),
        }
        if self.inside is not None:
            variables["EULER_APPTAINER"] = self.inside.executable
        yield from (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
        if self.inside is not None:
            yield "in_image=("
            yield from (f"  {shlex.quote(word)}" for word in self.inside.arguments)
            yield ")"
        yield f"srun_args=({' '.join(shlex.quote(word) for word in self.settings.srun_args or ())})"
        yield '. "$EULER_CODE/slurm/job.sh"'
        yield 'live "${runs[${SLURM_ARRAY_TASK_ID:-0}]}"'


def python_of(settings: LauncherSettings, *, is_inside: bool = False) -> str:
    """Return the interpreter of the jobs, which may be submitted again from elsewhere.

    Args:
        settings: of the launcher.
        is_inside: whether it is the image's; the first on its PATH is, where none is given.
    """
    if settings.python is None:
        return "python" if is_inside else sys.executable
    return os.path.abspath(settings.python) if os.sep in settings.python else settings.python


def additional_parameters(site: SiteSettings, settings: LauncherSettings) -> dict[str, Any]:
    """Return further options of sbatch, named with `_`: those of the site, then the launcher's; null is none."""
    both = {
        str(key).replace("-", "_"): value
        for source in (site.additional_parameters, settings.additional_parameters)
        for key, value in source.items()
    }
    return {key: value for key, value in both.items() if value is not None}


def _prologue(site: SiteSettings, settings: LauncherSettings) -> Iterator[str]:
    """Yield the lines of the site and the launcher; the user's own come last and may undo the others."""
    lines = [*_site_lines(site), *(settings.setup or ())]
    if lines:
        yield from lines
        yield ""


def _site_lines(site: SiteSettings) -> Iterable[str]:
    if site.modules:
        yield "type module > /dev/null 2>&1 || . /etc/profile"
        yield f"module load {' '.join(shlex.quote(name) for name in site.modules)} || exit"
    yield from site.setup
    if site.scratch is not None:
        folder = site.scratch.replace('"', '\\"')
        yield f'export TMPDIR="{folder}"'
        yield 'srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 mkdir -p "$TMPDIR" || exit'
    if site.network_interface is not None:
        name = shlex.quote(site.network_interface)
        yield f"export GLOO_SOCKET_IFNAME={name} NCCL_SOCKET_IFNAME={name}"

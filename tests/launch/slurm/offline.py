"""Launches on a machine without SLURM: previews, and refusals that need no cluster."""

import shlex
from pathlib import Path

from tests.config.command_line import Ended, train

LAUNCH = ("-m", "hydra/launcher=submitit_slurm")
PREVIEW = (*LAUNCH, "hydra.launcher.dry_run=true")


def without_slurm(home: Path) -> dict[str, str]:
    """Variables of a machine that has no `sbatch`."""
    return {"PATH": str(home / "no-programs"), "SLURM_CONF": str(home / "no-slurm.conf")}


def preview(line: str, home: Path) -> Ended:
    """Runs a launch that is to be shown only."""
    return train(*PREVIEW, *shlex.split(line), home=home, environment=without_slurm(home))

"""Launches without a cluster: as processes that show the scripts only, and composed in this process."""

import shlex
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from pipeline.config.compose import CONF_DIR, Composition, collect, open_overrides
from pipeline.launch.slurm.cluster import Cluster
from pipeline.launch.slurm.prepared import Prepared, prepare
from tests.config.command_line import Ended, train

LAUNCHER = "hydra/launcher=submitit_slurm"

# What sinfo prints for two small partitions, one with several kinds of nodes, and one with a time limit.
CLUSTER = Cluster.read(
    """\
cpu*|infinite|2|4|(null)|16000
short|30:00|2|4|(null)|16000
gpu|2-00:00:00|2|32|gpu:a100:4(S:0-1),shard:8|512000
gpu|2-00:00:00|1|64|gpu:h100:8|1024000
"""
)


def without_slurm(home: Path) -> dict[str, str]:
    """Variables of a machine that has no `sbatch`."""
    return {"PATH": str(home / "no-programs"), "SLURM_CONF": str(home / "no-slurm.conf")}


def preview(line: str, home: Path, **variables: str) -> Ended:
    """Runs a launch that is to be shown only, on a machine without SLURM; `variables` are its environment's."""
    arguments = ("-m", LAUNCHER, "hydra.launcher.dry_run=true", *shlex.split(line))
    return train(*arguments, home=home, environment=without_slurm(home) | variables)


def point(line: str) -> tuple[Composition, dict]:
    """Composes what Hydra hands to the launcher for a command line that is one point."""
    overrides = open_overrides([LAUNCHER, "hydra.job.name=train", *shlex.split(line)])
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = hydra_compose("config", overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    launcher = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    with open_dict(config):
        del config["hydra"]
    del launcher["_target_"]
    return collect(config), launcher


def prepared(line: str, cluster: Cluster | None = CLUSTER) -> Prepared:
    """Checks a launch of one point as its preview does."""
    composition, launcher = point(line)
    (checked,) = prepare([(composition, launcher | {"dry_run": True})], cluster)
    return checked

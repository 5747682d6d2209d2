"""A recipe on the default data, as benchmarks need it: checked, with a directory of its own."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from pipeline.config.compose import collect, settle
from pipeline.launch import preflight
from pipeline.launch.preflight import Preflight

_CONF = Path(__file__).resolve().parents[1] / "conf"


def checked_config(run_dir: Path, *overrides: str, experiment: str = "full_size_complex") -> Preflight:
    """Return a recipe of `conf/experiment` with overrides, checked; `run_dir` is made."""
    (run_dir / "checkpoints").mkdir(parents=True)
    given = [f"experiment={experiment}", "data.source=default", "data.root=null", f"run.dir={run_dir}"]
    with hydra.initialize_config_dir(str(_CONF), version_base="1.3"):
        tree = hydra.compose("config", overrides=[*given, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(tree)
        with open_dict(tree):
            del tree["hydra"]
        composition = collect(tree)
    return preflight.check(settle(composition), composition.given)

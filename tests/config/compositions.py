"""Composing as `train.py` does, without a process of its own."""

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from pipeline.config.compose import CONF_DIR, Composition, collect, open_overrides


def compose(*arguments: str) -> Composition:
    """Composes what `python train.py ARGUMENTS` would."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = hydra_compose("config", overrides=open_overrides(arguments), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return collect(config)

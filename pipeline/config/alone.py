"""Composing one job without `@hydra.main`: for a batch script that needs no launcher."""

from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.compose import CONF_DIR, Composition, collect, open_overrides
from pipeline.errors import ConfigError


def compose_alone(arguments: Sequence[str]) -> Composition:
    """Return what `python train.py ARGUMENTS` would compose.

    Args:
        arguments: overrides as a user writes them.

    Raises:
        ConfigError: they cannot be composed.
    """
    flag = next((argument for argument in arguments if argument.startswith("-")), None)
    if flag is not None:
        raise ConfigError(f"{flag}: a job takes overrides only, key=value")
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = hydra_compose("config", overrides=open_overrides(arguments), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).strip()) from None
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return collect(config)

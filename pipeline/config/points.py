"""The points of a sweep, each composed as a job of its own would be."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.compose import Composition, collect
from pipeline.errors import ConfigError

_OWN = "_target_"


class RememberingLoader:
    """Hydra's loader, which keeps the points that the sweeper composes to check them until they are launched.

    Args:
        loader: of the sweep.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of a point: the one that was composed the time before, if it was not asked for."""
        point = tuple(sweep_overrides)
        if point in self._composed:
            return self._composed.pop(point)
        config = self._loader.load_sweep_config(master_config, sweep_overrides)
        self._composed[point] = config
        return config


def compose_points(
    loader: RememberingLoader, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> Iterator[tuple[Composition, dict[str, Any]]]:
    """Yield what Hydra composes for each point, and the settings of its launcher.

    Args:
        loader: of the sweep.
        master: what Hydra composed for the sweep as a whole.
        overrides: of each point.
        first: number of the first point.

    Raises:
        ConfigError: an interpolation cannot be resolved or a mandatory value is missing.
    """
    for number, own in enumerate(overrides, first):
        config = loader.load_sweep_config(master, list(own))
        with open_dict(config), read_write(config):
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.runtime.output_dir = os.path.join(config.hydra.sweep.dir, config.hydra.sweep.subdir)
        HydraConfig.instance().set_config(config)
        launcher = _launcher(config)
        task = config.copy()
        with open_dict(task), read_write(task):
            del task["hydra"]
        yield collect(task), launcher


def _launcher(config: DictConfig) -> dict[str, Any]:
    try:
        tree = OmegaConf.to_container(config.hydra.launcher, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'hydra.launcher'}: {str(error).splitlines()[0]}") from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items() if key != _OWN}

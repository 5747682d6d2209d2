"""`hydra/launcher=submitit_slurm`: what Hydra has to know of it; the work is done in `pipeline.launch.slurm`."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class OwnLauncherFirst(SearchPathPlugin):
    """Lets conf/hydra/launcher/submitit_slurm.yaml stand for itself: Hydra would merge it into the stock schema."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Take the stock node out; Hydra asks every plugin before it composes anything."""
        ConfigStore.instance().repo["hydra"]["launcher"].pop("submitit_slurm.yaml", None)


class SlurmLauncher(Launcher):
    """Submits the points of a sweep to SLURM, and returns when they are submitted."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what is needed, and send what the sweeper would write at once to a folder that goes away."""
        from pipeline.config.points import RememberingLoader

        self._master = config
        self._loader = hydra_context.config_loader = RememberingLoader(hydra_context.config_loader)
        self._home = Path(str(config.hydra.sweep.dir)).expanduser().absolute()
        self._folder = TemporaryDirectory(prefix="euler-sweep-")
        self._set_sweep_dir(self._folder.name)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the points.

        Raises:
            SystemExit: something is wrong (1), or with hydra.launcher.wait=true a job has failed (its exit code).
        """
        from pipeline.config.points import compose_points
        from pipeline.launch.report import plain_errors
        from pipeline.launch.slurm import submit

        with plain_errors():
            self._set_sweep_dir(str(self._home))
            self._folder.cleanup()
            given = [str(override).lstrip("+") for override in self._master.hydra.overrides.hydra]
            points = compose_points(self._loader, self._master, job_overrides, initial_job_idx)
            self._home = submit.submit(
                points,
                submit.Origin(
                    home=self._home,
                    is_home_given=initial_job_idx > 0
                    or any(key.startswith("hydra.sweep.dir=") for key in given),
                    is_basic=self._master.hydra.sweeper._target_ == _BASIC_SWEEPER,
                    given=tuple(given),
                ),
            )
            self._set_sweep_dir(str(self._home))
        return []

    def _set_sweep_dir(self, folder: str) -> None:
        with open_dict(self._master), read_write(self._master):
            self._master.hydra.sweep.dir = folder

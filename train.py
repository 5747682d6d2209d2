"""Train an audio autoencoder: `python train.py [group=choice] [key=value] ...`; with -m, one job per combination."""

import sys

from pipeline.launch.preemption import stop_signals

if __name__ == "__main__":
    stop_signals.install()  # before the imports, which take a second: a signal is honoured from here on

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from pipeline.config.compose import collect, open_overrides  # noqa: E402
from pipeline.launch.job import prepare_jobs, refuse_misleading_arguments, start  # noqa: E402
from pipeline.launch.report import plain_errors  # noqa: E402


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Run one job with the configuration that Hydra composed."""
    with plain_errors():
        start(collect(config))


if __name__ == "__main__":
    with plain_errors():
        refuse_misleading_arguments(sys.argv[1:])
        prepare_jobs()
        sys.argv[1:] = open_overrides(sys.argv[1:])
        main()

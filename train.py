"""Train an audio autoencoder: `python train.py [group=choice] [key=value] ...`; with -m, one job per combination."""

import sys

import hydra
from omegaconf import DictConfig

from pipeline.config.compose import collect, open_overrides
from pipeline.launch.job import prepare_jobs, refuse_misleading_arguments, start
from pipeline.launch.report import plain_errors


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

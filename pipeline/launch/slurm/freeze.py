"""What slurm/train.sbatch keeps of the code and the configuration at its first start, for all starts after it."""

import argparse
import os
import sys
from pathlib import Path

from pipeline.config import compose
from pipeline.config.alone import compose_alone
from pipeline.config.atomic import write_text
from pipeline.config.compose import Composition
from pipeline.config.schema import RESUME_WORDS
from pipeline.errors import LaunchError
from pipeline.launch import preflight, resources
from pipeline.launch.logs import configure_logging
from pipeline.launch.report import plain_errors
from pipeline.launch.slurm import failure, images, snapshot, submission
from pipeline.launch.slurm.enclosure import enclosure


def main() -> None:
    """Freeze what a job is to train, and say where the copy of the code is."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.launch.slurm.freeze",
        description="Copy the code to HOME/code and store the composed configuration in RUN, where it is not yet.",
    )
    parser.add_argument("home", metavar="HOME", type=Path, help="folder of the copy of the code")
    parser.add_argument(
        "--run", metavar="RUN", type=Path, help="run directory; none: check the overrides only"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as train.py takes them")
    options = parser.parse_args()
    with plain_errors():
        configure_logging()
        composition = compose_alone(options.overrides)
        _check(composition)
        code = snapshot.take(options.home)
        if options.run is not None:
            submission.write(options.run.absolute(), composition)
            folder = failure.job_folder(options.run)
            folder.mkdir(exist_ok=True)
            write_text(folder / "code", f"{code}\n")
            _note_image(options.run.absolute(), composition)
    sys.stdout.write(f"{code}\n")


def _note_image(run: Path, composition: Composition) -> None:
    """Write down the image that the environment names, and the folders that the run needs in it, one a line."""
    image = os.environ.get("EULER_IMAGE")
    config = compose.settle(composition)
    if config.container.image not in (None, image):
        raise LaunchError(
            f"container.image={config.container.image}: slurm/train.sbatch takes its image from EULER_IMAGE; set that "
            "instead"
        )
    if not image:
        images.record(run, None)
        return
    container = config.container.model_copy(update={"image": image})
    images.check_file(container)
    inside = enclosure([config.model_copy(update={"container": container})], [run])
    assert inside is not None
    images.record(run, inside)
    write_text(
        failure.job_folder(run) / "binds", "".join(f"{word}\n" for word in inside.arguments if word != "--nv")
    )


def _check(composition: Composition) -> None:
    """Refuse what needs no node and no torch to be seen; the ranks check the rest."""
    config = compose.settle(composition)
    if config.run.resume not in RESUME_WORDS:
        return
    trainer = config.trainer
    auto = 1 if trainer.num_processes == 1 else 0
    num_gpus = auto if trainer.num_gpus == "auto" else int(trainer.num_gpus)
    preflight.check(config, composition.given, resources.arrange(config, num_gpus), has_torch=False)


if __name__ == "__main__":
    main()

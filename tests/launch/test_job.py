"""Arguments that Hydra would accept and that would do something else than they say."""

import pytest

from pipeline.errors import LaunchError
from pipeline.launch.job import refuse_misleading_arguments

IMAGE = "container.image=/shared/euler.sif"


@pytest.mark.parametrize("others", [(), ("-m",), ("-m", "hydra/launcher=submitit_local")])
def test_an_image_that_nothing_would_enter(others):
    with pytest.raises(LaunchError, match="apptainer exec /shared/euler.sif python train.py"):
        refuse_misleading_arguments([*others, IMAGE])


@pytest.mark.parametrize(
    "arguments",
    [("-m", "hydra/launcher=submitit_slurm", IMAGE), ("--cfg", "job", IMAGE), ("container.image=null",)],
)
def test_an_image_that_means_something(arguments):
    refuse_misleading_arguments(arguments)


def test_a_folder_for_hydra():
    with pytest.raises(LaunchError, match=r"hydra\.run\.dir=x has no effect here; valid: run\.dir=DIR"):
        refuse_misleading_arguments(["hydra.run.dir=x"])

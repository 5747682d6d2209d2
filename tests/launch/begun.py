"""Run directories as they are after set-up, without the training."""

from pipeline.config.compose import settle
from pipeline.launch import directory, preflight, resume
from tests.config.compositions import compose

SMALL = ("trainer.seed=5", "trainer.trainer.max_steps=3", "trainer.num_gpus=0")


def wanted(*arguments):
    """The checked configuration of a command, and what it was composed from."""
    composition = compose(*arguments)
    return preflight.check(settle(composition), composition.given).config, composition


def begin(*arguments):
    """A run directory as it is after set-up."""
    config, composition = wanted(*arguments)
    config = directory.claim(config, None)
    directory.write_records(config, composition)
    return directory.RunDirectory.of(config).path


def given_to(run, *arguments):
    composition = compose(*arguments)
    return resume.change(run, settle(composition), composition.given)

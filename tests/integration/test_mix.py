"""Runs on mixes and lists: the same samples on any number of processes, and exactly on after a resume."""

import re

import pytest

from tests.data.layouts import write_all
from tests.integration.runs import TINY

pytestmark = pytest.mark.long
FEW = (*TINY, "data.train_dataloader.prefetch_factor=null", "data.eval_dataloader.num_workers=0")


@pytest.fixture
def root(tmp_path):
    write_all(tmp_path / "data")
    return tmp_path / "data"


def mix(root):
    table = root / "fma_metadata" / "tracks.csv"
    return (
        "data=jamendo_fma",
        f"data.mix.jamendo.root={root / 'mtg-jamendo'}",
        f"data.mix.fma.root={root / 'fma_full'}",
        f"data.mix.fma.selection.config.tracks={table}",
        "data.train_dataset.augmentations={gain:{},polarity:{},channel_swap:{},mono_mix:{}}",
        *FEW,
        "trainer.trainer.max_steps=6",
    )


def sequence(run):
    return re.search(r"sample sequence: (\w+)", run.output)[1]


def test_a_mix_goes_on_exactly_and_is_the_same_on_two_processes(train, root):
    whole = train(*mix(root), name="whole")
    assert whole.code == 0, whole.output
    begun = train(*mix(root), "trainer.trainer.max_steps=2", name="begun")
    resumed = train(f"run.resume={begun.directory}", "trainer.trainer.max_steps=6", name="begun")
    assert resumed.code == 0, resumed.output
    assert (sequence(resumed), begun.weights) == (sequence(whole), whole.weights)
    two = train(*mix(root), "data.train_dataloader.batch_size=2", "trainer.num_processes=2", name="two")
    assert two.code == 0, two.output
    assert sequence(two) == sequence(whole)


@pytest.mark.parametrize(
    "chosen",
    [
        ["data=list", "data.root={root}"],
        ["data=jamendo", "data.root={root}/mtg-jamendo-low"],
        ["data=jamendo_highres", "data.root={root}/mtg-jamendo"],
        [
            "data=fma",
            "data.root={root}/fma_full",
            "data.selection.config.tracks={root}/fma_metadata/tracks.csv",
        ],
    ],
    ids=lambda chosen: chosen[0],
)
def test_shipped_data_files_train(train, root, chosen):
    run = train(*(argument.format(root=root) for argument in chosen), *FEW)
    assert run.code == 0, run.output

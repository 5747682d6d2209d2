"""Every model of conf/ trains; norms with statistics of a batch are the same on many ranks and across a resume."""

import csv

import pytest
import torch

from pipeline.config.compose import CONF_DIR
from tests.integration.runs import TINY, load_weights

MODELS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
SMALL = (
    *TINY,
    "model.encoder.config.n_filters=2",
    "model.encoder.config.n_residual_layers=1",
    "model.encoder.config.dimension=8",
    "model.decoder.config.dimension=4",
    "trainer.num_gpus=0",
    "trainer.global_batch_size=8",
    "trainer.trainer.num_demos=0",
    "trainer.trainer.limit_val_batches=null",
    "trainer.trainer.check_val_every_n_epoch=1",
    "data.eval_dataset.max_segments=11",
    "data.train_dataset.segments_per_epoch=24",
)
# Everything with a state or a collective of its own.
DEMANDING = {
    "complex": (
        "model.encoder.config.norm=batch_norm",
        "model.encoder.config.activation=freqModReLU",
        "model.encoder.config.causal=true",
        "model.encoder.config.sequence_model=transformer",
    ),
    "real": (
        "model.encoder.config.complex_valued=false",
        "model.encoder.config.norm=batch_norm",
        "model.encoder.config.activation=GLU",
        "model.encoder.config.sequence_model=lstm",
    ),
    "spectral": (
        "model.encoder.config.norm=spectral_norm",
        "model.encoder.config.activation=PhaseGELU",
        "model.encoder.config.double_final_conv=true",
    ),
}


def losses(run):
    with (run.directory / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_three_steps(train, name):
    small = ("data.segment_frames=9", "data.train_dataloader.batch_size=2", "trainer.trainer.num_demos=0")
    run = train(*TINY, f"model={name}", *small, "trainer.num_gpus=0")
    assert run.code == 0, run.output
    found = losses(run)
    assert len(found) == 3 and all(0 < loss < float("inf") for loss in found)


@pytest.mark.long
@pytest.mark.parametrize("name", DEMANDING)
def test_two_ranks_train_the_weights_and_statistics_of_one(train, name):
    """Of the same batch over all ranks: an accumulated step would have statistics for each of its batches."""
    common = (*SMALL, *DEMANDING[name], "trainer.precision=64-true", "trainer.trainer.max_steps=6")
    one = train(*common, "data.train_dataloader.batch_size=8", name="one")
    two = train(*common, "trainer.strategy=ddp", "trainer.num_processes=2", name="two")
    assert one.code == two.code == 0, one.output + two.output
    expected, found = (load_weights(run.directory / "checkpoints" / "last.ckpt") for run in (one, two))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-7, atol=1e-9, msg=key)


@pytest.mark.long
@pytest.mark.parametrize("name", DEMANDING)
@pytest.mark.parametrize("strategy", ["alone", "ddp", "deepspeed"])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(train, name, strategy):
    ranks = () if strategy == "alone" else (f"trainer.strategy={strategy}", "trainer.num_processes=2")
    common = (*SMALL, *DEMANDING[name], *ranks)
    whole = train(*common, "trainer.trainer.max_steps=6", name="whole")
    again = train(*common, "trainer.trainer.max_steps=6", name="again")
    half = train(*common, "trainer.trainer.max_steps=4", name="half")
    assert whole.code == again.code == half.code == 0, whole.output + half.output
    assert again.weights == whole.weights
    rest = train(f"run.resume={half.directory}", "trainer.trainer.max_steps=6", name="rest")
    assert rest.code == 0, rest.output
    assert half.weights == whole.weights


@pytest.mark.long
@pytest.mark.parametrize("name", DEMANDING)
def test_mixed_precision_and_accumulation(train, name):
    run = train(
        *SMALL,
        *DEMANDING[name],
        "trainer.precision=bf16-mixed",
        "trainer.trainer.accumulate_grad_batches=2",
        "trainer.trainer.strict_deterministic=true",
    )
    assert run.code == 0, run.output
    assert all(0 < loss < float("inf") for loss in losses(run))

"""Loss balancing, averaged weights, changing weights, masked latents and decoder-only training in real runs."""

import csv

import pytest
import torch

from pipeline.inference.codec import AudioCodec
from tests.integration.runs import TINY, load_weights

SMALL = (
    *TINY,
    "model.encoder.config.n_filters=2",
    "model.encoder.config.dimension=8",
    "model.decoder.config.dimension=4",
    "trainer.trainer.num_demos=0",
    "trainer.trainer.enable_model_summary=false",
)
OPTIONS = (
    *SMALL,
    "trainer.loss_balancer.enabled=true",
    "trainer.ema.enabled=true",
    "trainer.loss_config.spectral.phase_cosine={}",
    "trainer.loss_config.spectral.weights.phase_cosine=0.5",
    "trainer.loss_config.spectral.decay.phase_cosine=0.9",
    "trainer.loss_config.time.l1_mid_side={}",
    "trainer.loss_config.time.weights.l1_mid_side=0.5",
    "trainer.loss_config.bottleneck.weights.kl=1e-3",
    "trainer.loss_config.bottleneck.warmup.kl=10",
    "model.autoencoder.latent_mask_ratio=0.2",
    "model.autoencoder.activation_checkpointing=true",
    "model.autoencoder.chunk_frames=4",
    "data.segment_frames=7",
    "data.channels=2",
    "data.train_dataset.segments_per_epoch=16",
)


def state(run):
    return load_weights(run.directory / "checkpoints" / "last.ckpt")


def column(run, name):
    with (run.directory / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.long
def test_a_run_with_every_option_goes_on_exactly(train):
    validated = ("trainer.trainer.check_val_every_n_epoch=1", "model.autoencoder.chunk_frames=null")
    whole = train(*OPTIONS, *validated, "trainer.trainer.max_steps=6", name="whole")
    half = train(*OPTIONS, *validated, "trainer.trainer.max_steps=3", name="half")
    assert whole.code == half.code == 0, whole.output + half.output
    again = train(f"run.resume={half.directory}", "trainer.trainer.max_steps=6", name="half")
    assert again.code == 0, again.output
    expected, found = state(whole), state(half)
    assert {"losses.balancer.norms", "losses.balancer.updates"} <= expected.keys()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert (half.directory / "metrics.csv").read_bytes() == (whole.directory / "metrics.csv").read_bytes()
    average = {name: value for name, value in expected.items() if name.startswith("averaged.")}
    trained = {name: expected[name.replace("averaged.network.", "autoencoder.")] for name in average}
    assert any(not torch.equal(value, trained[name]) for name, value in average.items())
    exported = AudioCodec.load(whole.directory, which="last").autoencoder.state_dict()
    assert all(torch.equal(average[f"averaged.network.{name}"], value) for name, value in exported.items())


@pytest.mark.long
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_options_are_the_same_on_ranks_and_batches(train, precision):
    """One process, accumulation of two, and two processes: the same weights and averages, clipping included."""
    common = (
        *OPTIONS,
        f"trainer.precision={precision}",
        "trainer.num_gpus=0",
        "trainer.global_batch_size=8",
        "trainer.trainer.max_steps=6",
        "trainer.trainer.gradient_clip_val=0.5",
    )
    runs = [
        train(*common, "data.train_dataloader.batch_size=8", name="one"),
        train(*common, "trainer.trainer.accumulate_grad_batches=2", name="accumulated"),
        train(*common, "trainer.num_processes=2", name="two"),
        train(
            *common,
            "trainer.num_processes=2",
            "data.train_dataloader.batch_size=2",
            "trainer.trainer.accumulate_grad_batches=2",
            name="both",
        ),
    ]
    assert all(run.code == 0 for run in runs), "".join(run.output for run in runs)
    # near silence the gradient of the phase is as large as bf16's rounding lets it be, and its norm with it
    weights, norms = (1e-9, 1e-9) if precision == "64-true" else (5e-3, 0.2)
    expected = state(runs[0])
    for run in runs[1:]:
        found = state(run)
        for name, value in expected.items():
            tolerance = norms if name == "losses.balancer.norms" else weights
            torch.testing.assert_close(found[name], value, rtol=tolerance, atol=weights, msg=name)


@pytest.mark.long
@pytest.mark.parametrize("strategy", [(), ("trainer.strategy=deepspeed",)], ids=["auto", "zero"])
def test_the_decoder_alone_is_trained(train, strategy):
    first = train(*SMALL, "trainer.trainer.max_steps=1", name="first")
    assert first.code == 0, first.output
    common = (
        *SMALL,
        *strategy,
        "trainer.num_gpus=0",
        "trainer.train_only=decoder",
        f"run.init_from={first.directory}",
    )
    whole = train(*common, "trainer.trainer.max_steps=4", name="whole")
    assert whole.code == 0, whole.output
    assert "kl is ignored: trainer.train_only=decoder" in whole.output
    before, after = state(first), state(whole)
    for name, value in before.items():
        is_decoder = name.startswith("autoencoder.decoder.")
        assert torch.equal(after[name], value) != is_decoder, name
    checkpoint = torch.load(whole.directory / "checkpoints" / "last.ckpt", weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    num_weights = sum(name.startswith("autoencoder.decoder.") for name in before)
    assert len(optimizer["state"]) == len(optimizer["param_groups"][0]["params"]) == num_weights
    half = train(*common, "trainer.trainer.max_steps=2", name="half")
    again = train(f"run.resume={half.directory}", "trainer.trainer.max_steps=4", name="half")
    assert again.code == 0, again.output
    assert half.weights == whole.weights


def test_options_that_cannot_be_honoured_are_refused(train):
    alone = train(*SMALL, "trainer.train_only=decoder", name="alone")
    assert alone.code == 1 and "trainer.train_only=decoder needs run.init_from=CKPT" in alone.output
    lbfgs = train(*SMALL, "trainer.loss_balancer.enabled=true", "trainer.optimizer.type=LBFGS", name="lbfgs")
    assert lbfgs.code == 1 and "trainer.optimizer.type=LBFGS evaluates a step several times" in lbfgs.output
    nothing = train(
        *SMALL,
        "trainer.loss_balancer.enabled=true",
        "trainer.loss_config.spectral.weights.stft_mse=0",
        name="nothing",
    )
    assert nothing.code == 1 and "reconstruction losses, and none is active" in nothing.output

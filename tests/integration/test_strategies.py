"""One key from one process to many: the same mathematics, rates and checkpoints under every strategy."""

import csv
import shutil

import pytest
import torch

from tests.integration.runs import TINY, load_weights

STRATEGIES = {
    "auto": (),
    "ddp": ("trainer.strategy=ddp", "trainer.num_processes=2"),
    "deepspeed": ("trainer.strategy=deepspeed", "trainer.num_processes=2"),
}
SMALL = (
    "model.encoder.config.n_filters=2",
    "model.encoder.config.dimension=8",
    "model.decoder.config.dimension=4",
)
COMMON = (
    *TINY,
    *SMALL,
    "trainer.num_gpus=0",
    "trainer.global_batch_size=8",
    "trainer.trainer.num_demos=0",
    "trainer.trainer.enable_model_summary=false",
    "trainer.loss_config.bottleneck.weights.kl=1e-3",
)
# What can go wrong in the sum over ranks: accumulation that an epoch's end cuts short, clipping, workers, validation.
DEMANDING = (
    *COMMON,
    "trainer.trainer.max_steps=20",
    "trainer.trainer.accumulate_grad_batches=2",
    "trainer.trainer.gradient_clip_val=0.01",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.trainer.limit_val_batches=null",
    "data.eval_dataset.max_segments=11",
    "data.train_dataset.segments_per_epoch=44",
    "trainer.trainer.limit_train_batches=7",
    "data.train_dataloader.num_workers=2",
)


def column(run, name):
    with (run.directory / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def weights(run):
    return load_weights(run.directory / "checkpoints" / "last.ckpt")


def require_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        gap = float((found[name] - value).abs().max())
        assert gap <= tolerance, (name, gap)


@pytest.mark.long
@pytest.mark.parametrize("num_processes", [2, 4])
@pytest.mark.parametrize(
    ("strategy", "precision", "tolerance"),
    [
        (("trainer.strategy=ddp",), "64-true", 1e-9),
        (("trainer.strategy=deepspeed", "trainer.deepspeed.stage=1"), "32-true", 1e-5),
        (("trainer.strategy=deepspeed", "trainer.deepspeed.stage=2"), "32-true", 1e-5),
    ],
)
def test_many_ranks_train_the_weights_of_one(train, strategy, precision, tolerance, num_processes):
    common = (*DEMANDING, f"trainer.precision={precision}")
    one = train(*common, name="one")
    many = [train(*common, *strategy, f"trainer.num_processes={num_processes}", name=name) for name in "ab"]
    assert all(run.code == 0 for run in (one, *many)), one.output + "".join(run.output for run in many)
    require_close(weights(many[0]), weights(one), tolerance)
    assert many[0].weights == many[1].weights
    first, second = ((run.directory / "metrics.csv").read_bytes() for run in many)
    assert first == second
    for name in ("train/loss", "train/grad_norm", "val/sisdr"):
        torch.testing.assert_close(
            torch.tensor(column(many[0], name)), torch.tensor(column(one, name)), rtol=1e-4, atol=1e-6
        )


def test_deepspeed_trains_the_weights_of_ddp_and_ends_in_single_files(train):
    cut_short = (  # the epoch's third batch is a step of its own
        "trainer.trainer.accumulate_grad_batches=2",
        "trainer.trainer.limit_train_batches=3",
        "trainer.trainer.max_steps=4",
    )
    runs = {name: train(*COMMON, *cut_short, *STRATEGIES[name], name=name) for name in ("ddp", "deepspeed")}
    assert all(run.code == 0 for run in runs.values()), runs["deepspeed"].output
    norms = [column(run, "train/grad_norm") for run in runs.values()]
    assert len(norms[0]) == 4 and norms[1] == pytest.approx(norms[0], rel=1e-5)
    require_close(weights(runs["deepspeed"]), weights(runs["ddp"]), 1e-6)
    assert "strategy deepspeed" in runs["deepspeed"].output
    left = sorted(path.name for path in (runs["deepspeed"].directory / "checkpoints").iterdir())
    assert left and all(name.endswith(".ckpt") for name in left), left
    states = [
        torch.load(run.directory / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
        for run in runs.values()
    ]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert {i: set(entry) for i, entry in states[0]["state"].items()} == {
        i: set(entry) for i, entry in states[1]["state"].items()
    }


@pytest.mark.long
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_learning_rate_is_the_same_everywhere_and_across_a_resume(train, accumulate):
    common = (
        *COMMON,
        f"trainer.trainer.accumulate_grad_batches={accumulate}",
        f"trainer.global_batch_size={8 * accumulate}",
        "data.train_dataset.segments_per_epoch=96",
        "trainer.scheduler.config.inv_gamma=10",
        "trainer.trainer.max_epochs=-1",
    )
    rates = {}
    for name, strategy in STRATEGIES.items():
        whole = train(*common, *strategy, "trainer.trainer.max_steps=40", name=f"{name}-whole")
        half = train(*common, *strategy, "trainer.trainer.max_steps=20", name=f"{name}-half")
        assert whole.code == half.code == 0, whole.output + half.output
        rest = train(f"run.resume={half.directory}", "trainer.trainer.max_steps=40", name=f"{name}-rest")
        assert rest.code == 0, rest.output
        rates[name], rates[f"{name} resumed"] = column(whole, "train/lr"), column(half, "train/lr")
    assert len(rates["auto"]) == 40 and len(set(rates["auto"])) > 30
    assert all(sequence == rates["auto"] for sequence in rates.values())


@pytest.fixture(scope="module")
def trained():
    """Runs of the module by strategy; a fixture of one test fills it."""
    return {}


def _trained(train, trained, name, folder):
    if name not in trained:
        run = train(*COMMON, *STRATEGIES[name], "trainer.trainer.max_steps=4", name=f"trained-{name}")
        assert run.code == 0, run.output
        trained[name] = folder / name
        shutil.copytree(run.directory, trained[name])
    return trained[name]


@pytest.mark.long
@pytest.mark.parametrize("written", STRATEGIES)
def test_a_checkpoint_starts_every_other_strategy(train, trained, tmp_path_factory, written):
    source = _trained(train, trained, written, tmp_path_factory.mktemp("trained"))
    initial = {}
    for name, strategy in STRATEGIES.items():
        run = train(
            *COMMON,
            *strategy,
            f"run.init_from={source / 'checkpoints' / 'last.ckpt'}",
            "trainer.trainer.num_sanity_val_steps=-1",
            "trainer.trainer.limit_val_batches=null",
            "trainer.trainer.max_steps=1",
            "data.eval_dataset.max_segments=16",
            name=f"from-{name}",
        )
        assert run.code == 0, run.output
        initial[name] = [column(run, f"val/{metric}")[0] for metric in ("sisdr", "stft", "mel")]
    for values in initial.values():
        assert values == pytest.approx(initial["auto"], rel=1e-6)
    assert initial["ddp"] == initial["deepspeed"]


@pytest.mark.long
@pytest.mark.parametrize("written", STRATEGIES)
def test_a_run_goes_on_under_every_other_strategy(train, trained, tmp_path_factory, written):
    """Four steps under one strategy and four under another are eight steps under one, to rounding."""
    folder = tmp_path_factory.mktemp("goes-on")
    source = _trained(train, trained, written, tmp_path_factory.mktemp("trained"))
    whole = train(*COMMON, *STRATEGIES["auto"], "trainer.trainer.max_steps=8", name="whole")
    assert whole.code == 0, whole.output
    for name, strategy in STRATEGIES.items():
        copied = folder / name
        shutil.copytree(source, copied)
        changes = strategy or ("trainer.strategy=auto", "trainer.num_processes=1")
        run = train(f"run.resume={copied}", *changes, "trainer.trainer.max_steps=8", name=f"on-{name}")
        assert run.code == 0, run.output
        require_close(load_weights(copied / "checkpoints" / "last.ckpt"), weights(whole), 1e-5)

"""The same command gives the same weights, on one process and on several."""

import csv

import pytest
import torch

from tests.integration.runs import TINY, load_weights

SHORT = (*TINY, "trainer.trainer.max_steps=6", "trainer.loss_config.bottleneck.weights.kl=1e-3")


@pytest.mark.parametrize(
    "model", ["SEANet_complex_small", pytest.param("SEANet_real_small", marks=pytest.mark.long)]
)
def test_two_runs_are_equal_with_and_without_workers(train, train_from_scratch, model):
    first = train_from_scratch(*SHORT, f"model={model}", name="a")
    second = train(*SHORT, f"model={model}", "data.train_dataloader.num_workers=2", name="b")
    assert first.code == second.code == 0, first.output + second.output
    assert first.weights == second.weights
    assert (first.directory / "metrics.csv").read_bytes() == (second.directory / "metrics.csv").read_bytes()
    other = train(*SHORT, f"model={model}", "trainer.seed=95", name="c")
    assert other.weights != first.weights


@pytest.mark.long
def test_two_processes_equal_one_in_float64(train):
    """Half the batch each, latent noise on: equal to 1e-9 after 20 steps, both ranks alike, the same samples."""
    common = (
        *TINY,
        "trainer.precision=64-true",
        "trainer.trainer.max_steps=20",
        "trainer.global_batch_size=8",
        "trainer.loss_config.bottleneck.weights.kl=1e-3",
        "trainer.trainer.limit_val_batches=3",
        "data.eval_dataset.max_segments=11",
    )
    one = train(*common, name="one")
    two = train(*common, "trainer.num_processes=2", name="two")
    assert one.code == two.code == 0, one.output + two.output
    assert "8 = 4 x 2 process(es) x 1 accumulated" in two.output
    expected, found = (load_weights(run.directory / "checkpoints" / "last.ckpt") for run in (one, two))
    for name, value in expected.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)

    def column(run, name):
        with (run.directory / "metrics.csv").open() as file:
            return [float(row[name]) for row in csv.DictReader(file) if row[name]]

    digests = [
        next(line.split()[-1] for line in log.read_text().splitlines() if "weights sha256" in line)
        for log in sorted((two.directory / "logs").iterdir())
    ]
    assert len(digests) == 2 and len(set(digests)) == 1, "both ranks hold the same weights"

    # the same audio in the same order gives the same losses, KL with its noise included
    for name in ("train/loss", "train/bottleneck/kl", "val/sisdr"):
        torch.testing.assert_close(
            torch.tensor(column(one, name)), torch.tensor(column(two, name)), rtol=1e-7, atol=1e-9
        )


def test_strict_determinism_trains(train):
    run = train(*TINY, "trainer.trainer.strict_deterministic=true", "trainer.num_gpus=0")
    assert run.code == 0, run.output

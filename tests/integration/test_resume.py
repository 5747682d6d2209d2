"""Runs that go on: after damage, after their time is over, on another number of processes, beyond their end."""

import csv
import hashlib
import os
import re
import subprocess

import pytest
import torch

from tests.integration.runs import TINY, weights_digest

EPOCHS = (
    *TINY,
    "data.train_dataset.segments_per_epoch=16",
    "data.train_dataloader.num_workers=2",
    "data.eval_dataset.max_segments=6",
    "trainer.trainer.limit_val_batches=null",
    "trainer.trainer.max_steps=-1",
    "trainer.trainer.max_epochs=3",
    "trainer.trainer.check_val_every_n_epoch=1",
    "trainer.trainer.num_demos=0",
    "trainer.loss_config.bottleneck.weights.kl=1e-3",
)


def damage(path, how):
    if how == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 16
        path.unlink()  # other names of the checkpoint keep their bytes
        path.write_bytes(content)
    else:
        os.truncate(path, 0 if how == "empty" else path.stat().st_size - 100)


@pytest.mark.parametrize(
    "how", ["flipped", *(pytest.param(how, marks=pytest.mark.long) for how in ("empty", "truncated"))]
)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(train, how):
    whole = train(*EPOCHS, name="whole")
    short = train(*EPOCHS, "trainer.trainer.max_epochs=2", name="short")
    last = short.directory / "checkpoints" / "last.ckpt"
    damage(last, how)
    again = train(f"run.resume={short.directory}", "trainer.trainer.max_epochs=3")
    assert again.code == 0, again.output
    assert f"passed over: {last}" in again.output and "previous.ckpt at step 4" in again.output.replace(
        "\n", " "
    )
    assert (last.parent / "last.ckpt.damaged").exists()
    assert weights_digest(last) == whole.weights
    assert (short.directory / "metrics.csv").read_bytes() == (whole.directory / "metrics.csv").read_bytes()


@pytest.mark.long
def test_a_run_whose_checkpoints_are_all_damaged_begins_again(train):
    run = train(*EPOCHS)
    expected, metrics = run.weights, (run.directory / "metrics.csv").read_bytes()
    for path in (run.directory / "checkpoints").iterdir():
        damage(path, "empty")
    again = train(f"run.resume={run.directory}")
    assert again.code == 0 and "starts from its beginning" in again.output, again.output
    assert weights_digest(run.directory / "checkpoints" / "last.ckpt") == expected
    assert (run.directory / "metrics.csv").read_bytes() == metrics


def test_a_finished_run_that_is_extended_equals_a_longer_one(train):
    whole = train(*EPOCHS, "trainer.trainer.max_steps=10", "trainer.trainer.max_epochs=-1", name="whole")
    short = train(*EPOCHS, "trainer.trainer.max_steps=5", "trainer.trainer.max_epochs=-1", name="short")
    before = {path.name: path.read_bytes() for path in (short.directory / "checkpoints").iterdir()}
    metrics = (short.directory / "metrics.csv").read_bytes()
    said = train(f"run.resume={short.directory}")
    assert said.code == 0 and "nothing left to train: step 5" in said.output
    assert (short.directory / "metrics.csv").read_bytes() == metrics
    assert {path.name: path.read_bytes() for path in (short.directory / "checkpoints").iterdir()} == before
    again = train(f"run.resume={short.directory}", "trainer.trainer.max_steps=10")
    assert again.code == 0, again.output
    assert weights_digest(short.directory / "checkpoints" / "last.ckpt") == whole.weights
    assert (short.directory / "metrics.csv").read_bytes() == (whole.directory / "metrics.csv").read_bytes()


@pytest.mark.long
def test_max_time_ends_with_the_resume_code_and_goes_on_exactly(train):
    horizon = ("trainer.trainer.max_steps=400", "trainer.trainer.max_epochs=-1")
    whole = train(*EPOCHS, *horizon, "trainer.trainer.check_val_every_n_epoch=50", name="whole")
    run = train(
        *EPOCHS,
        *horizon,
        "trainer.trainer.check_val_every_n_epoch=50",
        "trainer.trainer.max_time=00:00:00:08",
        name="timed",
    )
    sessions = 1
    while run.code == 75:
        assert " s is nearly over: saved up to step" in run.output, run.output
        assert f"run.resume={run.directory}" in run.output
        sessions += 1
        longer = "trainer.trainer.max_time=00:00:01:00"
        run = train(f"run.resume={run.directory}", longer, name="timed")
        assert sessions < 12, run.output
    assert run.code == 0, run.output
    assert sessions > 1
    assert run.weights == whole.weights
    assert (run.directory / "metrics.csv").read_bytes() == (whole.directory / "metrics.csv").read_bytes()


def test_saving_by_the_clock(train):
    run = train(
        *EPOCHS,
        "trainer.trainer.max_epochs=8",
        "trainer.trainer.save_every_n_epochs=1000",
        "trainer.trainer.save_every_n_minutes=0.001",
    )
    assert run.code == 0, run.output
    checkpoints = run.directory / "checkpoints"
    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in checkpoints.iterdir()}
    assert steps["last.ckpt"] == 32 and 0 < steps["previous.ckpt"] < 32, steps


@pytest.mark.long
def test_the_global_sequence_is_one_on_any_number_of_processes_and_across_changes(train, tmp_path):
    """The crops that were really read, in their order, on 1, 2 and 4 processes and on 2, then 1, then 4."""
    common = (*EPOCHS, "trainer.global_batch_size=8", "trainer.num_gpus=0")

    def fingerprint(run):
        return re.findall(r"sample sequence: ([0-9a-f]{64})", run.output)[-1]

    def losses(run):
        with (run.directory / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        return [float(row["train/loss"]) for row in rows if row["train/loss"]]

    runs = {
        ranks: train(*common, f"trainer.num_processes={ranks}", name=f"ranks-{ranks}") for ranks in (1, 2, 4)
    }
    for run in runs.values():
        assert run.code == 0, run.output
    moved = train(*common, "trainer.num_processes=2", "trainer.trainer.max_epochs=1", name="moved")
    for ranks, epochs in ((1, 2), (4, 3)):
        again = train(
            f"run.resume={moved.directory}",
            f"trainer.num_processes={ranks}",
            f"trainer.trainer.max_epochs={epochs}",
            name="moved",
        )
        assert again.code == 0, again.output
    assert len(losses(runs[1])) == 6
    for run in (runs[2], runs[4], again):
        assert fingerprint(run) == fingerprint(runs[1])
        torch.testing.assert_close(losses(run), losses(runs[1]), rtol=1e-4, atol=0)
    assert again.weights != runs[4].weights, (
        "the sums of the epochs on 2 and 1 processes were rounded otherwise"
    )
    first = train(*common, "trainer.num_processes=4", "trainer.trainer.max_epochs=1", name="same")
    four = train(f"run.resume={first.directory}", "trainer.trainer.max_epochs=3", name="same")
    assert four.weights == runs[4].weights, "on one number of processes every bit is the same"
    other = train(*common, "trainer.seed=95", name="other")
    assert fingerprint(other) != fingerprint(runs[1])


@pytest.mark.long
def test_another_total_batch_is_refused_with_the_remedy(train):
    run = train(*EPOCHS, "trainer.trainer.max_epochs=1")
    refused = train(
        f"run.resume={run.directory}",
        "trainer.num_processes=2",
        "trainer.num_gpus=0",
        "trainer.trainer.max_epochs=2",
    )
    assert refused.code == 1
    assert re.search(r"4 samples per optimiser step.*set trainer\.global_batch_size=4", refused.output), (
        refused.output
    )
    moved = train(
        f"run.resume={run.directory}",
        "trainer.num_processes=2",
        "trainer.num_gpus=0",
        "trainer.global_batch_size=4",
        "trainer.trainer.max_epochs=2",
    )
    assert moved.code == 0, moved.output


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_and_saves_nothing(train, tmp_path):
    """One rank's audio turns its loss into inf; the other's is fine."""
    run = train(
        *EPOCHS,
        "trainer.num_gpus=0",
        "trainer.num_processes=2",
        "trainer.optimizer.config.lr=1e30",
        "trainer.scheduler.enabled=false",
        "trainer.trainer.max_epochs=30",
        "trainer.trainer.save_every_n_minutes=0.0001",
    )
    assert run.code == 1
    assert "TrainingError: the loss is" in run.output and ".flac" in run.output, run.output
    assert "Traceback" not in run.output
    for path in (run.directory / "checkpoints").glob("*.ckpt"):
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in weights.values()), path


def test_a_full_disk_is_a_clear_error_and_earlier_checkpoints_stay_whole(train, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=36m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        run = train(*EPOCHS, f"run.dir={disk}/run", "trainer.trainer.save_top_k=-1")
        assert run.code == 1, run.output
        assert "CheckpointError" in run.output and "cannot be written" in run.output and "free" in run.output
        assert "Traceback" not in run.output
        whole = [path for path in (disk / "run" / "checkpoints").iterdir() if path.suffix == ".ckpt"]
        assert len(whole) >= 2
        hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in whole}
        assert hashes and all(torch.load(path, weights_only=True)["global_step"] > 0 for path in whole)
        assert not list((disk / "run" / "checkpoints").glob(".*"))
        subprocess.run(["mount", "-o", "remount,size=500m", str(disk)], check=True)
        again = train(f"run.resume={disk}/run")
        assert again.code == 0, again.output
        reference = train(*EPOCHS, name="reference")
        assert weights_digest(disk / "run" / "checkpoints" / "last.ckpt") == reference.weights
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)

"""One whole run: what it says, what it leaves behind."""

import csv
import fcntl
import json
import shutil

import soundfile
import torch
from omegaconf import OmegaConf

from tests.integration.runs import TINY, weights_digest


def test_a_run_leaves_its_records(train):
    demos = ("trainer.trainer.num_demos=1", "trainer.trainer.demo_seconds=1.0")
    run = train(*TINY, *demos, "trainer.trainer.num_sanity_val_steps=1", "trainer.trainer.save_top_k=2")
    assert run.code == 0, run.output
    directory = run.directory
    for name in (
        "config.yaml",
        ".hydra/overrides.yaml",
        ".hydra/config.yaml",
        "curves.png",
        "logs/rank-0.log",
    ):
        assert (directory / name).is_file(), name
    with (directory / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3, 3]
    assert all(row["train/loss"] and row["train/grad_norm"] and row["train/lr"] for row in rows[1:4])
    assert all(
        rows[index]["val/sisdr"] and rows[index]["val/stft"] and rows[index]["val/mel"] for index in (0, 4)
    )
    total = sum(float(rows[1][f"train/{name}_weighted"]) for name in ("spectral/stft_mse", "bottleneck/kl"))
    assert abs(total - float(rows[1]["train/loss"])) < 1e-6 * total

    provenance = json.loads((directory / "provenance.json").read_text())
    assert provenance["seed"] == 94 and provenance["packages"]["torch"] == torch.__version__
    assert len(provenance["git"]["commit"]) == 40 and provenance["hardware"]["cpu_count"] > 0
    assert "trainer.trainer.max_steps=3" in provenance["overrides"]

    reference, rate = soundfile.read(directory / "media" / "step-00000003" / "0-reference.wav")
    estimate, _ = soundfile.read(directory / "media" / "step-00000003" / "0-reconstruction.wav")
    assert rate == 44100 and reference.shape == estimate.shape == (44100,)
    assert (directory / "media" / "step-00000003" / "0-spectrogram.png").stat().st_size > 10_000

    checkpoints = directory / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt", "step-00000003.ckpt"}
    checkpoint = torch.load(checkpoints / "best.ckpt", weights_only=True)
    assert checkpoint["inference"]["sample_rate_hz"] == 44100 and checkpoint["global_step"] == 3


def test_the_banner_says_what_will_happen(train):
    run = train(*TINY, "trainer.loss_config.time.l1={}", "trainer.loss_config.time.weights.l1=0")
    assert run.code == 0, run.output
    for fact in (
        "min in 48 files for training",
        "8 files held out",
        "SEANetEncoder, VAEBottleneck",
        "compression",
        "audio samples per latent value",
        "4 = 4 x 1 process(es) x 1 accumulated",
        "spectral/stft_mse x 1",
        "time/l1 disabled (weight 0)",
        str(run.directory),
    ):
        assert fact in run.output.replace("\n            ", " "), fact


def test_resuming_starts_from_the_runs_own_config(train):
    first = train(*TINY, "trainer.seed=5")
    assert first.code == 0, first.output
    before = (first.directory / "config.yaml").read_text()
    again = train(f"run.resume={first.directory}", "trainer.trainer.max_steps=5")
    assert again.code == 0, again.output
    assert "max_steps was 3, now 5" in again.output and "at step 3" in again.output
    assert again.directory == first.directory and (first.directory / "config.yaml").read_text() == before
    with (first.directory / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == [1, 2, 3, 4, 5]
    plain = train(f"run.resume={first.directory}")
    assert plain.code == 0 and "at step 5" in plain.output, "the longer horizon is remembered"
    refused = train(f"run.resume={first.directory}", "trainer.seed=6")
    assert refused.code == 1 and "trainer.seed: cannot change" in refused.output


def test_a_copied_run_goes_on_in_its_own_directory(train, tmp_path):
    first = train(*TINY)
    before = first.weights
    copy = shutil.copytree(first.directory, tmp_path / "copy" / "run")
    again = train(f"run.resume={copy}", "trainer.trainer.max_steps=4")
    assert again.code == 0, again.output
    assert first.weights == before and weights_digest(copy / "checkpoints" / "last.ckpt") != before


def test_a_new_run_may_start_from_weights(train):
    first = train(*TINY)
    best = first.directory / "checkpoints" / "best.ckpt"
    frozen = ("trainer.trainer.max_steps=1", "trainer.optimizer.config.lr=0")
    second = train(*TINY, f"run.init_from={best}", *frozen, name="b")
    assert second.code == 0, second.output
    assert second.weights == first.weights
    wrong = train(*TINY, f"run.init_from={best}", "model=SEANet_real_small", name="c")
    assert wrong.code == 1 and "do not fit the configured model" in wrong.output


def test_two_processes_never_train_in_one_directory(train, tmp_path):
    first = train(*TINY)
    with (first.directory / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = train(f"run.resume={first.directory}", "trainer.trainer.max_steps=9")
    assert second.code == 1 and "another process trains in this directory" in second.output
    third = train(*TINY, f"run.dir={first.directory}")
    assert third.code == 1 and "already holds a run" in third.output and "run.resume=" in third.output


def test_checkpoints_elsewhere_carry_their_records(train, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    run = train(*TINY, f"trainer.trainer.ckpt_dir={elsewhere}")
    assert run.code == 0, run.output
    assert {path.name for path in elsewhere.iterdir()} >= {
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
        "provenance.json",
    }
    run_dir = next(run.runs.rglob("curves.png")).parent
    assert OmegaConf.load(elsewhere / "config.yaml").run.dir == str(run_dir)
    other = train(*TINY, f"trainer.trainer.ckpt_dir={elsewhere}", name="other")
    assert other.code == 1 and "two runs never share one" in other.output


def test_retention(train):
    every = (
        "trainer.trainer.max_steps=-1",
        "trainer.trainer.max_epochs=4",
        "trainer.trainer.limit_train_batches=2",
    )
    every += ("trainer.trainer.check_val_every_n_epoch=1",)
    keep_all = train(*TINY, *every, "trainer.trainer.save_top_k=-1", name="all")
    assert keep_all.code == 0, keep_all.output
    names = {path.name for path in (keep_all.directory / "checkpoints").iterdir()}
    common = {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert names == common | {f"step-{step:08d}.ckpt" for step in (2, 4, 6, 8)}
    only_last = train(*TINY, *every, "trainer.trainer.save_top_k=0", name="last")
    assert {path.name for path in (only_last.directory / "checkpoints").iterdir()} == {"last.ckpt"}
    rare = train(
        *TINY, *every, "trainer.trainer.save_every_n_epochs=3", "trainer.trainer.save_top_k=-1", name="rare"
    )
    names = {path.name for path in (rare.directory / "checkpoints").iterdir()}
    assert names == common | {"step-00000006.ckpt", "step-00000008.ckpt"}


def test_every_logger_at_once(train):
    run = train(
        *TINY,
        "trainer.logger=[csv,tensorboard]",
        "trainer.wandb.use_wandb=true",
        "trainer.trainer.profile=true",
        "trainer.trainer.log_model_structure=true",
    )
    assert run.code == 0, run.output
    assert list((run.directory / "tensorboard").glob("events.*"))
    assert list((run.directory / "wandb").glob("offline-run-*/*.wandb")) and "wandb sync" in run.output
    assert list((run.directory / "profiler").glob("*.txt"))
    assert "(projection): Conv1d" in run.output
    silent = train(*TINY, "trainer.logger=none", name="silent")
    assert silent.code == 0 and not (silent.directory / "metrics.csv").exists()
    assert "(projection): Conv1d" not in silent.output


def test_a_diverging_loss_stops_the_run(train):
    wild = (
        "trainer.optimizer.config.lr=1e30",
        "trainer.scheduler.enabled=false",
        "trainer.trainer.max_steps=20",
    )
    run = train(*TINY, *wild)
    assert run.code == 1
    assert (
        "TrainingError: the loss is" in run.output
        and ".flac" in run.output
        and "gradient_clip_val" in run.output
    )
    assert "Traceback" not in run.output

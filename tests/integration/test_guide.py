"""Every command line and every YAML block of the trainer configuration guide runs as it stands."""

import csv

import numpy as np
import pytest
import soundfile

from tests.integration.runs import TINY

STEPS = [word for word in TINY if not word.startswith("data.train_dataloader.batch_size")]

BLOCKS = {
    "optimizer": """
optimizer:
  type: AdamW
  config:
    lr: 3e-4
    betas: [0.9, 0.999]
    weight_decay: 1e-4
""",
    "scheduler": """
scheduler:
  type: InverseLR
  config:
    inv_gamma: 1.0
    power: 1.0
    warmup: 0
""",
    "loss_config": """
loss_config:
  spectral:
    stft_mse:
      config:
        reduction: mean
    weights:
      stft_mse: 1.0
""",
    "kl": """
loss_config:
  bottleneck:
    weights:
      kl: 1.0
""",
    "eval_loss_config": """
eval_loss_config:
  sisdr:
    zero_mean: true
    reduction: mean
  stft:
    sample_rate: 44100
    fft_size: 2048
    hop_size: 512
    win_length: 2048
  mel:
    fft_size: 2048
    hop_size: 512
    win_length: 2048
    n_mels: 128
""",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_yaml_block_as_a_trainer_file_of_ones_own(train, tmp_path, block):
    """The blocks stand under `trainer`: a file of one's own in the group, composed over the default."""
    folder = tmp_path / "my_conf" / "trainer"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"defaults:\n  - default\n  - _self_\n{BLOCKS[block]}")
    run = train("--config-dir", str(folder.parent), "trainer=mine", *TINY)
    assert run.code == 0, run.output


def test_override_of_a_learning_rate(train):
    run = train("trainer.optimizer.config.lr=3e-4", *TINY)
    assert run.code == 0, run.output


def test_batch_size_and_epochs(train_from_scratch):
    run = train_from_scratch("data.train_dataloader.batch_size=32", "trainer.trainer.max_epochs=100", *STEPS)
    assert run.code == 0 and "32 = 32 x 1" in run.output, run.output


def test_wandb_switched_off(train):
    run = train("trainer.wandb.use_wandb=false", *TINY)
    assert run.code == 0 and not (run.directory / "wandb").exists()


def test_alternate_model_and_dataset(train, tmp_path):
    """`model=SEANet_real data=jamendo_highres` on a folder laid out like MTG-Jamendo: numbered folders of mp3."""
    noise = np.random.default_rng(0).standard_normal((3 * 44100, 2)) * 0.1
    for number in (1000, 1001, 1100):
        path = tmp_path / "jamendo" / f"{number % 100:02d}" / f"{number}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise, 44100)
    run = train(
        "model=SEANet_real",
        "data=jamendo_highres",
        f"data.root={tmp_path / 'jamendo'}",
        *TINY,
        "data.segment_frames=8",
        "data.train_dataloader.batch_size=2",
        "trainer.trainer.max_steps=2",
    )
    assert run.code == 0, run.output
    assert "2 files for training" in run.output and "2 channel(s)" in run.output
    assert "data.train_dataloader.prefetch_factor=4 has no effect" in run.output


def test_sgd_over_the_adamw_defaults(train):
    run = train("trainer.optimizer.type=SGD", *TINY)
    assert run.code == 0, run.output
    assert "trainer.optimizer.type=SGD: dropped inherited betas" in run.output


@pytest.mark.parametrize("accumulate", [1, 4])
def test_learning_rates_follow_the_closed_form(train, accumulate):
    run = train(
        *TINY,
        "trainer.scheduler.config={inv_gamma: 5.0, power: 0.5, warmup: 0.9, final_lr: 1e-3}",
        "trainer.optimizer.config.lr=2e-3",
        "trainer.trainer.max_steps=20",
        "data.train_dataloader.batch_size=1",
        f"trainer.trainer.accumulate_grad_batches={accumulate}",
    )
    assert run.code == 0, run.output
    with (run.directory / "metrics.csv").open() as file:
        found = [float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]]
    # the row of step t + 1 holds the rate that this step used
    expected = [(1 - 0.9 ** (t + 1)) * max(1e-3, 2e-3 * (1 + t / 5.0) ** -0.5) for t in range(20)]
    assert found == pytest.approx(expected, rel=1e-12)


def test_scheduler_switched_off_keeps_the_rate(train):
    run = train(*TINY, "trainer.scheduler.enabled=false", "trainer.optimizer.config.lr=2e-3")
    assert run.code == 0, run.output
    with (run.directory / "metrics.csv").open() as file:
        assert {float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]} == {2e-3}


def test_plateau_follows_its_monitor(train):
    run = train(
        *TINY,
        "trainer.scheduler.type=ReduceLROnPlateau",
        "trainer.scheduler.config={patience: 0, factor: 0.5, threshold: 1000.0, threshold_mode: abs}",
        "trainer.trainer.max_steps=-1",
        "trainer.trainer.max_epochs=4",
        "trainer.trainer.limit_train_batches=1",
        "trainer.trainer.check_val_every_n_epoch=1",
    )
    assert run.code == 0, run.output
    with (run.directory / "metrics.csv").open() as file:
        rates = [float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]]
    assert rates == [3e-3, 3e-3, 1.5e-3, 7.5e-4]

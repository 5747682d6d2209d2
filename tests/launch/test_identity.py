"""What makes a run this run: the digest that a repeated sweep goes by agrees with what a resume refuses."""

import pytest

from pipeline.launch.identity import horizon_of, identity_difference, identity_of
from tests.launch.begun import wanted

BASE = ("trainer.num_gpus=0",)


@pytest.fixture(scope="module")
def base():
    return wanted(*BASE)[0]


SAME = [
    "trainer.trainer.max_epochs=20",
    "trainer.trainer.max_steps=7",
    "trainer.num_processes=2",
    "trainer.strategy=ddp",
    "trainer.logger=tensorboard",
    "data.train_dataloader.num_workers=0",
    "data.cache_dir=/tmp/elsewhere",
    "run.name=another",
    "run.dir=/tmp/somewhere",
    "container.image=/tmp/euler.sif",
    "trainer.optimizer.config.weight_decay=0.0001",  # as shipped
]
OTHER = [
    "trainer.seed=1",
    "trainer.optimizer.config.lr=1e-4",
    "trainer.optimizer.type=SGD",
    "model=SEANet_real_small",
    "data.segment_frames=9",
    "trainer.loss_config.bottleneck.weights.kl=0",
    "trainer.precision=bf16-mixed",
    "trainer.trainer.gradient_clip_val=2",
    "trainer.deterministic=false",
]


@pytest.mark.parametrize("override", SAME)
def test_the_same_run(override, base):
    config = wanted(*BASE, override)[0]
    assert identity_of(config) == identity_of(base)
    assert identity_difference(base, config) is None


@pytest.mark.parametrize("override", OTHER)
def test_another_run(override, base):
    config = wanted(*BASE, override)[0]
    assert identity_of(config) != identity_of(base)
    assert identity_difference(base, config) is not None


def test_a_folder_of_audio_counts(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    configs = [wanted(*BASE, "data=folder", f"data.root={folder}")[0] for folder in folders]
    assert identity_of(configs[0]) != identity_of(configs[1])


def test_equal_numbers_are_one_setting(base):
    one, other = (
        wanted(*BASE, f"trainer.optimizer.config.weight_decay={value}")[0] for value in ("0", "0.0")
    )
    assert identity_of(one) == identity_of(other) != identity_of(base)


def test_horizon(base):
    assert horizon_of(base) == {"max_epochs": 8, "max_steps": -1}
    assert horizon_of(wanted(*BASE, "trainer.trainer.max_steps=7")[0]) == {"max_epochs": 8, "max_steps": 7}


def test_options_that_are_off_do_not_count():
    plain = identity_of(wanted(*BASE)[0])
    assert (
        identity_of(wanted(*BASE, "trainer.ema.decay=0.5", "trainer.loss_balancer.total_norm=2")[0]) == plain
    )
    switched = (
        "trainer.ema.enabled=true",
        "trainer.loss_balancer.enabled=true",
        "model.autoencoder.chunk_frames=8",
        "model.autoencoder.latent_mask_ratio=0.1",
    )
    assert len({plain, *(identity_of(wanted(*BASE, override)[0]) for override in switched)}) == 5

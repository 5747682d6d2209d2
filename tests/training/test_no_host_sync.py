"""A step that is not logged does not make the host wait for the device that trains."""

import pytest
import torch

from benchmarks.recipe import QUIET, assemble, checked_config
from tests.training.host_waits import StepWaits
from tests.training.noise_data import NoiseData

STEPS, LOGGED = 12, 5  # logged every so many steps

FORMS = {
    "real": ("model=SEANet_real_small",),
    "complex, everything on": (
        "trainer.loss_balancer.enabled=true",
        "+trainer.loss_config.spectral.mrstft={}",
        "+trainer.loss_config.spectral.weights.mrstft=1",
        "+trainer.loss_config.mel.mrmel={}",
        "+trainer.loss_config.mel.weights.mrmel=1",
        "trainer.ema.enabled=true",
        "model.autoencoder.latent_mask_ratio=0.1",
    ),
    "bf16, accumulated": ("trainer.precision=bf16-mixed", "trainer.trainer.accumulate_grad_batches=2"),
}


def waits(run_dir, *overrides):
    """What the host waited for in steps 6 to 11."""
    checked = checked_config(
        run_dir,
        "data.segment_frames=9",
        "data.train_dataloader.batch_size=2",
        "data.train_dataloader.num_workers=0",
        f"trainer.trainer.log_every_n_steps={LOGGED}",
        f"trainer.trainer.max_steps={STEPS}",
        "trainer.trainer.max_epochs=1",
        *QUIET,
        *overrides,
        experiment="default",
    )
    observed = StepWaits(LOGGED + 1, STEPS - 1)
    run = assemble(checked, lambda checkpoints: observed)
    run.trainer.fit(run.module, datamodule=NoiseData(checked))
    assert sorted(observed.found) == list(range(LOGGED + 1, STEPS))
    return observed.found


def known(wait):
    """On the CPU a loss is checked at once, and the optimiser counts its steps there on any device."""
    return "callbacks/guard.py" in wait or "torch/optim/" in wait


@pytest.mark.parametrize("form", FORMS)
def test_a_plain_step_reads_no_value(form, tmp_path):
    found = waits(tmp_path / "run", "trainer.num_gpus=0", *FORMS[form])
    found.pop(2 * LOGGED, None)  # a logged step is written at once on the CPU
    assert [wait for step in found.values() for wait in step if not known(wait)] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("form", FORMS)
def test_no_step_makes_the_host_wait_for_the_gpu(form, tmp_path):
    found = waits(tmp_path / "run", "trainer.num_gpus=1", *FORMS[form])
    assert [wait for step in found.values() for wait in step] == []

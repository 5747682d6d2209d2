"""`-m` with the local submitit launcher: one job and one run directory per combination."""

import pytest
from omegaconf import OmegaConf

from tests.integration.runs import TINY


def test_two_seeds_become_two_runs(train_from_scratch):
    sweep = train_from_scratch("-m", "hydra/launcher=submitit_local", "trainer.seed=1,2", *TINY)
    assert sweep.code == 0, sweep.output
    seeds = {OmegaConf.load(path / "config.yaml").trainer.seed for path in sweep.directories}
    assert seeds == {1, 2} and len(sweep.directories) == 2
    assert all((path / "checkpoints" / "last.ckpt").exists() for path in sweep.directories)


@pytest.mark.long
def test_a_failed_job_fails_the_sweep(train_from_scratch):
    sweep = train_from_scratch(
        "-m", "hydra/launcher=submitit_local", "trainer.optimizer.config.lr=1e-3,-1", *TINY
    )
    assert sweep.code != 0
    assert "trainer.optimizer.config.lr=-1" in sweep.output

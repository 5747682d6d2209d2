"""Every scheduler goes on from a checkpoint as if nothing had happened."""

import pytest
import torch

from pipeline.training.checkpoint import read
from pipeline.training.checkpoints.file import write_atomically
from pipeline.training.checkpoints.writer import BackgroundWriter
from pipeline.training.schedule import build_scheduler, scheduler_names

CONFIGS = {
    "ConstantLR": {"total_iters": 3},
    "CosineAnnealingLR": {"T_max": 7},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "cycle_momentum": False},
    "ExponentialLR": {"gamma": 0.9},
    "InverseLR": {"inv_gamma": 2.0, "power": 0.5, "warmup": 0.9, "final_lr": 0.0},
    "LinearLR": {"total_iters": 7},
    "MultiStepLR": {"milestones": [3, 6, 6]},
    "OneCycleLR": {"max_lr": 0.2, "total_steps": 20},
    "PolynomialLR": {"total_iters": 9},
    "ReduceLROnPlateau": {"patience": 0, "factor": 0.5},
    "StepLR": {"step_size": 3},
}


def make(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    return optimizer, build_scheduler({"type": name, "config": CONFIGS[name]}, optimizer)


def advance(optimizer, scheduler, steps):
    rates = []
    for step in steps:
        optimizer.step()
        scheduler.step(
            *(
                [1.0 / (step % 3 + 1)]
                if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                else []
            )
        )
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("saved_after", [1, 4])
@pytest.mark.parametrize("name", scheduler_names())
def test_a_scheduler_goes_on(name, saved_after, tmp_path):
    optimizer, scheduler = make(name)
    advance(optimizer, scheduler, range(saved_after))
    writer, path = BackgroundWriter(), tmp_path / "x.ckpt"
    for _ in range(2):  # the second copy uses the memory of the first
        state = {
            "state_dict": {},
            "global_step": saved_after,
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [scheduler.state_dict()],
        }
        writer.submit(state, lambda copy: write_atomically(copy, path))
    expected = advance(optimizer, scheduler, range(saved_after, 12))
    writer.wait()

    stored = read(path)
    optimizer, scheduler = make(name)
    optimizer.load_state_dict(stored["optimizer_states"][0])
    scheduler.load_state_dict(stored["lr_schedulers"][0])
    assert advance(optimizer, scheduler, range(saved_after, 12)) == expected

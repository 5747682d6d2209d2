"""Every scheduler of the installed torch is either accepted and resumes exactly, or refused with a reason."""

import inspect
import io
import math

import pytest
import torch
from torch.optim import lr_scheduler

from pipeline.errors import ConfigError
from pipeline.training.arguments import class_parameters, settable
from pipeline.training.optimizer import build_optimizer, small_weights
from pipeline.training.schedule import (
    REFUSED,
    InverseLR,
    build_scheduler,
    check_scheduler,
    reconcile_config,
    scheduler_names,
)

ALL_OF_TORCH = sorted(
    name
    for name, found in vars(lr_scheduler).items()
    if inspect.isclass(found) and issubclass(found, lr_scheduler.LRScheduler)
    if name not in ("LRScheduler", "_LRScheduler")
)
ADAMW = {"type": "AdamW", "config": {"lr": 3e-4}}
INVERSE = {"inv_gamma": 1.0, "power": 1.0, "warmup": 0.0}
ARGUMENTS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 5]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 10},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 1e-4, "max_lr": 1e-3, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 1e-3, "total_steps": 12},
    "ReduceLROnPlateau": {"patience": 1},
}


def step(optimizer, scheduler):
    optimizer.step()
    scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
    return optimizer.param_groups[0]["lr"]


def start(spec):
    optimizer = build_optimizer(ADAMW, small_weights())
    return optimizer, build_scheduler(spec, optimizer)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [*ALL_OF_TORCH, "InverseLR"])
def test_every_torch_scheduler(name):
    """An accepted one resumes as if nothing had happened; its state loads with weights_only=True."""
    spec = {"type": name, "config": ARGUMENTS.get(name, {})}
    if name in REFUSED:
        with pytest.raises(ConfigError, match=f"^trainer.scheduler.type='{name}': .*YAML.*StepLR"):
            check_scheduler(spec, ADAMW)
        return
    assert name in scheduler_names()
    check_scheduler(spec, ADAMW)
    optimizer, scheduler = start(spec)
    rates = [step(optimizer, scheduler) for _ in range(10)]
    assert len(set(rates)) > 1 and all(math.isfinite(rate) and rate >= 0 for rate in rates)

    optimizer, scheduler = start(spec)
    for _ in range(4):
        step(optimizer, scheduler)
    stored = io.BytesIO()
    torch.save((optimizer.state_dict(), scheduler.state_dict()), stored)
    stored.seek(0)
    states = torch.load(stored, weights_only=True)
    optimizer, scheduler = start(spec)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert [step(optimizer, scheduler) for _ in range(6)] == rates[4:]


@pytest.mark.parametrize("name", scheduler_names())
def test_every_default_is_a_valid_argument(name):
    scheduler_class = {**vars(lr_scheduler), "InverseLR": InverseLR}[name]
    signature = inspect.signature(scheduler_class)
    config = {key: signature.parameters[key].default for key in settable(class_parameters(scheduler_class))}
    check_scheduler({"type": name, "config": {**config, **ARGUMENTS.get(name, {})}}, ADAMW)


@pytest.mark.parametrize(
    "config",
    [
        INVERSE,
        {"inv_gamma": 7.0, "power": 0.5, "warmup": 0.9},
        {"inv_gamma": 2, "power": 1, "warmup": 0.5, "final_lr": 1e-4},
        {"inv_gamma": 30000.0, "power": 0.5, "warmup": 0.997},
    ],
)
def test_inverse_lr_is_the_closed_form_over_40_steps(config):
    optimizer, scheduler = start({"type": "InverseLR", "config": config})
    gamma, power, warmup = config["inv_gamma"], config["power"], config["warmup"]
    final_lr = config.get("final_lr", 0.0)
    for t in range(40):
        expected = (1 - warmup ** (t + 1)) * max(final_lr, 3e-4 * (1 + t / gamma) ** (-power))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)
        assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        step(optimizer, scheduler)


def test_inverse_lr_of_parameter_groups():
    first, second = small_weights()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 0.1}])
    scheduler = InverseLR(optimizer, inv_gamma=1.0, power=1.0)
    step(optimizer, scheduler)
    assert scheduler.get_last_lr() == pytest.approx([0.5, 0.05])


REFUSALS = [
    ("InversLR", {}, r"^trainer.scheduler.type='InversLR': .*did you mean 'InverseLR'.*StepLR"),
    ("LRScheduler", {}, r"^trainer.scheduler.type='LRScheduler': "),
    (
        "InverseLR",
        {"inv_gama": 1.0},
        r"^trainer.scheduler.config.inv_gama: .*did you mean 'inv_gamma'.*warmup",
    ),
    ("InverseLR", {"warmup": 1.0}, r"^trainer.scheduler.config.warmup=1.0: .*less than 1"),
    ("InverseLR", {"warmup": -0.1}, r"^trainer.scheduler.config.warmup=-0.1: "),
    ("InverseLR", {"inv_gamma": 0}, r"^trainer.scheduler.config.inv_gamma=0: "),
    ("InverseLR", {"power": "1"}, r"^trainer.scheduler.config.power='1': "),
    ("StepLR", {}, r"^trainer.scheduler.config.step_size: StepLR requires it; valid keys: step_size, gamma"),
    ("StepLR", {"step_size": 2, "gama": 1.0}, r"^trainer.scheduler.config.gama: .*'gamma'.*step_size"),
    ("StepLR", {"step_size": 2.5}, r"^trainer.scheduler.config.step_size=2.5: .*integer"),
    ("StepLR", {"step_size": 0}, r"^trainer.scheduler.config.step_size=0: StepLR refuses it"),
    ("StepLR", {"step_size": 2, "last_epoch": 3}, r"^trainer.scheduler.config.last_epoch: cannot be set"),
    ("MultiStepLR", {"milestones": ["a"]}, r"^trainer.scheduler.config.milestones=\['a'\]: .*integer"),
    ("ExponentialLR", {"gamma": -1.0}, r"^trainer.scheduler.config.gamma=-1.0: .*becomes -0.0003"),
    ("ReduceLROnPlateau", {"mode": "up"}, r"^trainer.scheduler.config.mode='up': .*'min' or 'max'"),
    ("ReduceLROnPlateau", {"factor": 1.5}, r"^trainer.scheduler.config.factor=1.5: "),
    ("OneCycleLR", {"max_lr": 0.1}, r"^trainer.scheduler.config.*total_steps"),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 1.0, "scale_fn": "x"},
        r"^trainer.scheduler.config.scale_fn: .*YAML",
    ),
]


@pytest.mark.parametrize(("name", "config", "message"), REFUSALS)
def test_refusals_lead_with_the_path(name, config, message):
    with pytest.raises(ConfigError, match=message):
        check_scheduler({"type": name, "config": config}, ADAMW)


def test_a_scheduler_that_does_not_suit_the_optimiser():
    spec = {"type": "CyclicLR", "config": ARGUMENTS["CyclicLR"]}
    with pytest.raises(ConfigError, match="^trainer.scheduler.config.* CyclicLR refuses it: .*momentum"):
        check_scheduler(spec, {"type": "Adagrad", "config": {}})


def test_one_cycle_must_last_for_the_run():
    spec = {"type": "OneCycleLR", "config": ARGUMENTS["OneCycleLR"]}
    optimizer = build_optimizer(ADAMW, small_weights())
    with pytest.raises(
        ConfigError, match="after 12 steps, the run has 13; a new run takes .*total_steps=13; .*run.init_from"
    ):
        build_scheduler(spec, optimizer, num_steps=13)
    build_scheduler(spec, optimizer, num_steps=12)


def test_inherited_keys_are_dropped():
    kept, dropped = reconcile_config("StepLR", {**INVERSE, "step_size": 3}, INVERSE)
    assert (kept, dropped) == ({"step_size": 3}, ["inv_gamma", "power", "warmup"])


def test_inherited_keys_that_apply_are_kept():
    kept, dropped = reconcile_config("PolynomialLR", INVERSE, INVERSE)
    assert (kept, dropped) == ({"power": 1.0}, ["inv_gamma", "warmup"])


def test_keys_that_the_user_gave_are_refused():
    with pytest.raises(ConfigError, match="^trainer.scheduler.config.warmup: StepLR .*step_size"):
        reconcile_config("StepLR", {**INVERSE, "warmup": 0.5, "step_size": 3}, INVERSE)


def test_inverse_lr_from_another_default():
    kept, dropped = reconcile_config("InverseLR", {"step_size": 3, "power": 0.5}, {"step_size": 3})
    assert dropped == ["step_size"]
    assert kept == {"inv_gamma": 1.0, "power": 0.5, "warmup": 0.0, "final_lr": 0.0}

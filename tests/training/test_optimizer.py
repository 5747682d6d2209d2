"""Every optimiser of the installed torch is accepted, and then trains a convolution, or is refused."""

import inspect

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.training.arguments import class_parameters, settable
from pipeline.training.optimizer import (
    REFUSED,
    build_optimizer,
    check_optimizer,
    check_with_trainer,
    optimizer_names,
    reconcile_config,
)

ALL_OF_TORCH = sorted(
    name
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found)
    and issubclass(found, torch.optim.Optimizer)
    and found is not torch.optim.Optimizer
)
ADAMW = {"lr": 3e-4, "betas": [0.9, 0.999], "weight_decay": 1e-4}


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ELU(), nn.Flatten(2), nn.Conv1d(3, 1, 3))


@pytest.mark.parametrize("name", ALL_OF_TORCH)
def test_every_torch_optimizer(name):
    spec = {"type": name, "config": {"lr": 1e-3}}
    if name in REFUSED:
        with pytest.raises(ConfigError, match=f"^trainer.optimizer.type='{name}': .*convolutions.*AdamW"):
            check_optimizer(spec)
        return
    assert name in optimizer_names()
    check_optimizer(spec)
    network = small_network()
    optimizer = build_optimizer(spec, network.parameters())
    before = [weight.detach().clone() for weight in network.parameters()]

    def closure():
        optimizer.zero_grad()
        loss = (network(torch.ones(2, 2, 6, 6)) - 3.0).square().mean()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert all(weight.isfinite().all() for weight in network.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", optimizer_names())
def test_every_default_is_a_valid_argument(name):
    """Each argument given explicitly at its default is accepted, lists for tuples."""
    optimizer_class = getattr(torch.optim, name)
    signature = inspect.signature(optimizer_class)
    config = {}
    for key in settable(class_parameters(optimizer_class)):
        default = signature.parameters[key].default
        config[key] = list(default) if isinstance(default, tuple) else default
    check_optimizer({"type": name, "config": config})


def test_what_yaml_may_set():
    found = set(settable(class_parameters(torch.optim.SGD)))
    assert found >= {"lr", "momentum", "weight_decay", "nesterov", "fused"}
    assert not found & {"params", "betas", "differentiable"}


def test_lists_become_tuples():
    optimizer = build_optimizer({"type": "AdamW", "config": ADAMW}, small_network().parameters())
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    adafactor = {"type": "Adafactor", "config": {"eps": [None, 1e-3]}}
    assert build_optimizer(adafactor, small_network().parameters()).defaults["eps"] == (None, 1e-3)


def test_parameter_groups_and_empty_config():
    network = small_network()
    groups = [{"params": network[0].parameters(), "lr": 0.1}, {"params": network[3].parameters()}]
    optimizer = build_optimizer({"type": "SGD", "config": None}, groups)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1e-3]


def test_checking_draws_no_random_numbers():
    state = torch.get_rng_state()
    check_optimizer({"type": "AdamW", "config": ADAMW})
    assert torch.equal(state, torch.get_rng_state())


REFUSALS = [
    ("AdamW", {"lr": -1.0}, r"^trainer.optimizer.config.lr=-1.0: AdamW refuses it: Invalid learning rate"),
    ("AdamW", {"betas": [0.9, 1.5]}, r"^trainer.optimizer.config.betas=\(0.9, 1.5\): .*beta"),
    ("AdamW", {"betas": [0.9]}, r"^trainer.optimizer.config.betas=\[0.9\]: "),
    ("AdamW", {"betas": 0.9}, r"^trainer.optimizer.config.betas=0.9: "),
    ("AdamW", {"lr": "fast"}, r"^trainer.optimizer.config.lr='fast': .*number"),
    ("AdamW", {"lr": float("inf")}, r"^trainer.optimizer.config.lr=inf: .*finite"),
    ("AdamW", {"amsgrad": "yes"}, r"^trainer.optimizer.config.amsgrad='yes': .*boolean"),
    (
        "AdamW",
        {"foreach": True, "fused": True},
        r"^trainer.optimizer.config.foreach=True: .*`fused` and `foreach`",
    ),
    ("AdamW", {"momentum": 0.9}, r"^trainer.optimizer.config.momentum: AdamW .*Valid: .*weight_decay"),
    (
        "AdamW",
        {"weigth_decay": 0.1},
        r"^trainer.optimizer.config.weigth_decay: .*did you mean 'weight_decay'",
    ),
    ("AdamW", {"differentiable": True}, r"^trainer.optimizer.config.differentiable: cannot be set"),
    ("AdamW", {"params": []}, r"^trainer.optimizer.config.params: "),
    ("SGD", {"nesterov": True}, r"^trainer.optimizer.config.nesterov=True: .*[Nn]esterov"),
    ("AdamX", {}, r"^trainer.optimizer.type='AdamX': .*did you mean 'Adam.*Valid: .*RMSprop"),
    ("adamw", {}, r"^trainer.optimizer.type='adamw': .*AdamW"),
    ("Optimizer", {}, r"^trainer.optimizer.type='Optimizer': "),
]


@pytest.mark.parametrize(("name", "config", "message"), REFUSALS)
def test_refusals_lead_with_the_path(name, config, message):
    with pytest.raises(ConfigError, match=message):
        check_optimizer({"type": name, "config": config})


def test_inherited_keys_are_dropped():
    kept, dropped = reconcile_config("SGD", {**ADAMW, "momentum": 0.9}, ADAMW)
    assert kept == {"lr": 3e-4, "weight_decay": 1e-4, "momentum": 0.9}
    assert dropped == ["betas"]


def test_keys_that_the_user_gave_are_refused():
    changed = {**ADAMW, "betas": [0.8, 0.99]}
    with pytest.raises(ConfigError, match="^trainer.optimizer.config.betas: SGD .*Valid: .*momentum"):
        reconcile_config("SGD", changed, ADAMW)
    with pytest.raises(ConfigError, match="^trainer.optimizer.config.betas: "):
        reconcile_config("SGD", ADAMW, {})


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        ({"type": "LBFGS"}, {"num_processes": 2}, "^trainer.optimizer.type=LBFGS .*2 processes"),
        ({"type": "LBFGS"}, {"accumulate_grad_batches": 4}, "accumulate_grad_batches"),
        ({"type": "LBFGS"}, {"precision": "16-mixed"}, "trainer.precision"),
        (
            {"type": "AdamW", "config": {"fused": True}},
            {"precision": "16-mixed"},
            "^trainer.optimizer.config.fused=True .*gradient_clip_val=1.0.*trainer.precision=16-mixed",
        ),
        (
            {"type": "AdamW", "config": {"capturable": True}},
            {"use_gpu": False},
            "^trainer.optimizer.config.capturable=True .*valid: false",
        ),
    ],
)
def test_combinations_with_the_trainer(spec, changes, message):
    usual = {
        "precision": "bf16-mixed",
        "gradient_clip_val": 1.0,
        "accumulate_grad_batches": 1,
        "num_processes": 1,
        "use_gpu": True,
    }
    check_with_trainer(spec, **usual)
    with pytest.raises(ConfigError, match=message):
        check_with_trainer(spec, **{**usual, **changes})


@pytest.mark.parametrize(("before", "after"), [(None, True), (True, None), (True, False)])
def test_a_stored_state_does_not_decide_how_a_step_is_computed(before, after):
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizers = [
        build_optimizer({"type": "AdamW", "config": {**ADAMW, "fused": fused}}, [weight])
        for weight, fused in zip(weights, (before, after), strict=True)
    ]
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.5)
    optimizers[0].step()
    stored = optimizers[0].state_dict()
    optimizers[1].load_state_dict(stored)
    assert optimizers[1].param_groups[0]["fused"] is after and stored["param_groups"][0]["fused"] is before
    optimizers[1].step()
    assert optimizers[1].state[weights[1]]["step"] == 2

"""An optimiser's state in parts is the same state."""

import copy
import math

import pytest
import torch

from pipeline.training.checkpoints.optimizer_parts import (
    flat_state_of,
    merge_parts,
    part_of,
    whole_without_parts,
)

SHAPES = [[2, 3, 2], [5], [1, 1], [7, 3]]
OPTIMIZERS = {
    "AdamW": {"lr": 1e-2, "weight_decay": 0.1},
    "Adam": {"lr": 1e-2, "amsgrad": True},
    "SGD": {"lr": 1e-2, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"lr": 1e-2, "centered": True, "momentum": 0.5},
    "Adagrad": {"lr": 1e-2},
    "Adadelta": {"lr": 1.0},
    "Adamax": {"lr": 1e-2},
    "NAdam": {"lr": 1e-2},
    "RAdam": {"lr": 1e-2},
    "ASGD": {"lr": 1e-2},
    "Rprop": {"lr": 1e-2},
}


def _weights():
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def _train(optimizer, weights, steps=range(4)):
    """Steps with gradients that depend on the place of a number in all the weights, and on the step."""
    for step in steps:
        for weight in weights:
            weight.grad = torch.sin(weight.detach() * (step + 1))
        optimizer.step()


def _share(flat, rank, size):
    padded = torch.zeros(size)
    piece = flat[rank * size : (rank + 1) * size]
    padded[: len(piece)] = piece
    return torch.nn.Parameter(padded)


def _shares(weights, world_size):
    flat = torch.cat([weight.detach().reshape(-1) for weight in weights])
    size = math.ceil(len(flat) / (2 * world_size)) * 2
    return [_share(flat, rank, size) for rank in range(world_size)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_parts_of_several_ranks_are_the_state_of_one(name, world_size):
    optimizer_class, options = getattr(torch.optim, name), OPTIMIZERS[name]
    weights = _weights()
    shares = _shares(weights, world_size)
    one = optimizer_class(weights, **options)
    _train(one, weights)
    expected = one.state_dict()

    parts = []
    for share in shares:
        optimizer = optimizer_class([share], **options)
        _train(optimizer, [share])
        state = optimizer.state_dict()
        parts.append(part_of(state["state"], 1))
    whole = whole_without_parts(state["param_groups"], [SHAPES])
    found = merge_parts(whole, parts)

    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for index, values in expected["state"].items():
        assert found["state"][index].keys() == values.keys()
        for key, value in values.items():
            assert torch.equal(torch.as_tensor(found["state"][index][key]), torch.as_tensor(value)), key


@pytest.mark.parametrize("name", ["AdamW", "SGD", "NAdam"])
def test_a_run_goes_on_from_any_number_of_ranks_to_any_other(name):
    optimizer_class, options = getattr(torch.optim, name), OPTIMIZERS[name]
    weights = _weights()
    one = optimizer_class(weights, **options)
    _train(one, weights)
    whole, before = copy.deepcopy(one.state_dict()), [weight.detach().clone() for weight in weights]
    _train(one, weights, steps=range(4, 8))
    for world_size in (1, 2, 4):
        shares = _shares(before, world_size)
        for rank, share in enumerate(shares):
            optimizer = optimizer_class([share], **options)
            flat = flat_state_of(whole, [len(share)], rank)
            optimizer.load_state_dict({"state": flat, "param_groups": optimizer.state_dict()["param_groups"]})
            _train(optimizer, [share], steps=range(4, 8))
        found = torch.cat([share.detach() for share in shares])
        expected = torch.cat([weight.detach().reshape(-1) for weight in weights])
        assert torch.equal(found[: len(expected)], expected)


def test_an_optimiser_that_has_not_stepped_has_no_state():
    whole = whole_without_parts([{"lr": 0.1, "params": [0]}], [SHAPES])
    assert merge_parts(whole, [part_of({}, 1), part_of({}, 1)])["state"] == {}
    assert flat_state_of(merge_parts(whole, [part_of({}, 1)]), [40], 0) == {}

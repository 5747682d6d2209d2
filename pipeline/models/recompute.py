"""Activation checkpointing: inner activations are computed again in the backward pass instead of being kept.

The second pass is the first one to the last bit: the same input, weights, precision, random state, and the same stored
state of the layers (running statistics, power iterations), which it leaves as it found it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(network: nn.Module, features: Tensor) -> Tensor:
    """Return `network(features)` and keep nothing of its inside."""
    return _recomputed(network, network.__call__, features)


def recompute_layers(network: nn.Module) -> None:
    """Make a network keep few activations in training, with the same result and gradients to the last bit.

    A chain of n layers is cut into about sqrt(n) stretches, a list of blocks into its blocks; of a stretch or block
    only the input is kept. The names of weights stay.

    Args:
        network: whose outermost `nn.Sequential` and `nn.ModuleList` are treated.
    """
    for child in network.children():
        if isinstance(child, nn.Sequential):
            child.__dict__["forward"] = partial(_run_stretches, child)  # under the names of its weights
        elif isinstance(child, nn.ModuleList):
            for block in child:
                block.__dict__["forward"] = partial(_run_block, block, block.forward)
        else:
            recompute_layers(child)


def _run_stretches(chain: nn.Sequential, features: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return _run_all(list(chain), features)
    layers = list(chain)
    length = math.ceil(math.sqrt(len(layers)))
    for start in range(0, len(layers), length):
        stretch = nn.ModuleList(layers[start : start + length])
        features = _recomputed(stretch, partial(_run_all, list(stretch)), features)
    return features


def _run_all(layers: list[nn.Module], features: Tensor) -> Tensor:
    for layer in layers:
        features = layer(features)
    return features


def _run_block(block: nn.Module, forward: Callable[..., Tensor], *arguments: object) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*arguments)
    return _recomputed(block, forward, *arguments)


def _recomputed(network: nn.Module, forward: Callable[..., Tensor], *arguments: object) -> Tensor:
    names = {name for name, _ in network.named_parameters()}
    with torch.no_grad():
        state = [value for name, value in network.state_dict().items() if name not in names]
    after: list[Tensor] = []

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _as_it_was(state, after)

    output: Tensor = checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts)
    after.extend(value.clone() for value in state)
    return output


@contextmanager
def _as_it_was(state: list[Tensor], after: list[Tensor]) -> Iterator[None]:
    """Put back the state that the first pass has left, and then the present one.

    A layer knows a second pass by its running inside a backward pass, and moves no state on in it.
    """
    with torch.no_grad():
        present = [value.clone() for value in state]
        for value, former in zip(state, after, strict=True):
            value.copy_(former)
    try:
        yield
    finally:
        with torch.no_grad():
            for value, former in zip(state, present, strict=True):
                value.copy_(former)

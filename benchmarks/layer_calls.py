"""Watches the convolutions of an autoencoder in any form: what goes in, what comes out, and how to repeat it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn

from pipeline.layers import folded
from pipeline.layers.conv import ConvTranspose2d
from pipeline.layers.convolution import Convolution
from pipeline.layers.folded import FoldedMap

Apply = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerCall:
    """One convolution of a forward pass.

    Attributes:
        name: of the layer in its autoencoder.
        layer: itself.
        given: what went in, as it lies in memory, folded or not; like `output` it keeps nothing of the pass alive: a
            weight that still is in a graph of another stream cannot be recorded in a CUDA graph.
        positions_in: what went in, (B, channels, F, T) or (B, channels, L).
        output: what came out, (B, channels, F, T) or (B, channels, L).
        apply: repeats it on something that lies like `given`.
        fold: positions (B, channels, F, T) to what lies like `given`.
        unfold: the way back for what `apply` returns.
    """

    name: str
    layer: Convolution
    given: Tensor
    positions_in: torch.Size
    output: Tensor
    apply: Apply
    fold: Apply
    unfold: Apply

    @property
    def num_parts(self) -> int:
        """Real channels of a channel."""
        return 2 if self.layer.style.complex_valued else 1

    @property
    def flop(self) -> float:
        """Real operations of the forward pass: multiplications and additions of the layer itself, whatever its form."""
        layer = self.layer
        meets = self.positions_in if isinstance(layer, ConvTranspose2d) else self.output.shape
        at = meets[0] * math.prod(meets[2:])
        channels = layer.in_channels * layer.out_channels // layer.groups * self.num_parts**2
        return 2.0 * at * channels * math.prod(layer.kernel_size)

    @property
    def num_values(self) -> int:
        """Real numbers that go in and come out."""
        return math.prod(self.positions_in) + self.output.numel()


@contextmanager
def watch(autoencoder: nn.Module, see: Callable[[LayerCall], None]) -> Iterator[None]:
    """Show every convolution of the forward passes inside; nothing of the autoencoder may be compiled."""
    names = {module: name for name, module in autoencoder.named_modules() if isinstance(module, Convolution)}
    own_layer = folded.apply_layer
    under_way: list[nn.Module] = []  # folded layers, some of which call the layer itself

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, Convolution)
        if module not in under_way:
            see(_plain_call(names[module], module, inputs[0], output, module.forward))

    def layer_noted(layer: nn.Module, features: FoldedMap) -> FoldedMap:
        under_way.append(layer)
        result = own_layer(layer, features)
        if isinstance(layer, Convolution):
            see(_folded_call(names[layer], layer, features, result, own_layer))
        under_way.pop()
        return result

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        with mock.patch.object(folded, "apply_layer", layer_noted):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _plain_call(name: str, layer: Convolution, given: Tensor, output: Tensor, apply: Apply) -> LayerCall:
    return LayerCall(name, layer, _alone(given), given.shape, output.detach(), apply, _as_is, _as_is)


def _folded_call(
    name: str,
    layer: Convolution,
    features: FoldedMap,
    result: FoldedMap,
    apply: Callable[[nn.Module, FoldedMap], FoldedMap],
) -> LayerCall:
    grid, reached = features.grid, result.grid
    positions = (features.features.shape[0], features.num_channels, grid.bins.length, grid.frames.length)
    return LayerCall(
        name,
        layer,
        _alone(features.features),
        torch.Size(positions),
        result.unfolded().detach(),
        lambda given: apply(layer, FoldedMap(given, grid)).features,
        lambda tensor: FoldedMap.of(tensor).in_blocks(grid.fold).features,
        lambda tensor: FoldedMap(tensor, reached).unfolded(),
    )


def _alone(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _as_is(tensor: Tensor) -> Tensor:
    return tensor

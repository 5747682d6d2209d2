"""Layers of a chain applied to folded maps; see `folding`. Weights stay those of the layers."""

from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.conv import Conv2d, ConvTranspose2d
from pipeline.layers.convolution import Convolution
from pipeline.layers.exact_convolution import convolve_by_products
from pipeline.layers.folding import AxisTaps, Grid, Size, fold, pad_blocks, spread_weight, unfold
from pipeline.layers.phase_preserving import FreqModReLU
from pipeline.layers.residual import ResidualUnit

# Measured on an H200 with the layers of the full-size models, bf16, forward and backward pass of single convolutions.
# Longer kernels alone would like blocks twice as large, but folding anew around them costs more than that gains.
_WIDE_ENOUGH = 32  # real channels from which on a convolution is as fast as its folded form
_FOLDED_WIDTH = 128  # real channels that folding aims at


@dataclass(frozen=True)
class FoldedMap:
    """Features (B, C f t, F/f, T/t) and how they are folded."""

    features: Tensor
    grid: Grid

    @classmethod
    def of(cls, features: Tensor) -> "FoldedMap":
        """A map (B, C, F, T) that is not folded."""
        return cls(features, Grid.of(features))

    @property
    def num_channels(self) -> int:
        """Real channels C."""
        return self.features.shape[1] // self.grid.block_size

    def in_blocks(self, size: Size) -> "FoldedMap":
        """The same map in other blocks."""
        if size == self.grid.fold:
            return self
        return FoldedMap(fold(self.unfolded(), size), self.grid.in_blocks(size))

    def unfolded(self) -> Tensor:
        """The features (B, C, F, T)."""
        return unfold(self.features, self.grid)


def block_size(num_channels: int) -> Size:
    """The block that makes so many real channels wide enough: bins and frames in turn, powers of two, 16 at most."""
    bins = frames = 1
    if num_channels >= _WIDE_ENOUGH:
        return bins, frames
    while num_channels * bins * frames * 2 <= _FOLDED_WIDTH and bins * frames < 16:
        if bins <= frames:
            bins *= 2
        else:
            frames *= 2
    return bins, frames


def cannot_fold(network: nn.Module) -> str | None:
    """Why the 2-D layers of a network cannot be applied to folded maps; None if they can."""
    for module in network.modules():
        if isinstance(module, Convolution) and module.norm is not None:
            return f"norm={module.style.norm} takes statistics over positions"
        if isinstance(module, Convolution) and module.groups > 1:
            return "grouped convolutions"
        if isinstance(module, FreqModReLU):
            return "freqModReLU has a parameter per bin"
    return None


def apply_folded(layers: nn.Module, features: Tensor) -> Tensor:
    """Apply a chain of convolutions, residual units and activations: (B, C, F, T) to (B, C', F', T').

    Args:
        layers: `nn.Sequential` of layers that `cannot_fold` passes.
        features: The map.
    """
    assert isinstance(layers, nn.Sequential)
    return _chain(layers, FoldedMap.of(features)).unfolded()


def _chain(layers: nn.Sequential, folded: FoldedMap) -> FoldedMap:
    for layer in layers:
        folded = apply_layer(layer, folded)
    return folded


def apply_layer(layer: nn.Module, folded: FoldedMap) -> FoldedMap:
    """Apply one layer of a chain."""
    if isinstance(layer, Conv2d):
        return _conv(layer, folded)
    if isinstance(layer, ConvTranspose2d):
        return _conv_transpose(layer, folded)
    if isinstance(layer, ResidualUnit):
        body = _chain(layer.body, folded)
        shortcut = folded if isinstance(layer.shortcut, nn.Identity) else apply_layer(layer.shortcut, folded)
        shortcut = shortcut.in_blocks(body.grid.fold)
        return FoldedMap(shortcut.features + body.features, body.grid)
    return _activation(layer, folded)


def _activation(layer: nn.Module, folded: FoldedMap) -> FoldedMap:
    """An activation sees channels and, as one axis more, the positions of a block."""
    if not any(True for _ in layer.parameters()):  # elementwise, of single parts or of pairs
        return FoldedMap(layer(folded.features), folded.grid)
    apart = folded.features.unflatten(1, (-1, folded.grid.block_size))
    return FoldedMap(layer(apart).flatten(1, 2), folded.grid)


def _conv(layer: Conv2d, folded: FoldedMap) -> FoldedMap:
    if layer.stride == (1, 1):
        aim = block_size(max(folded.num_channels, layer.real_out_channels))
        folded = folded.in_blocks(aim)
    else:
        aim = block_size(layer.real_out_channels)
        folded = folded.in_blocks(block_size(folded.num_channels))
    if folded.grid.block_size == 1 and aim == (1, 1):
        return FoldedMap.of(layer(folded.features))
    # whole input blocks for every output block
    size = tuple(
        wanted if wanted * step % given == 0 else given // gcd(given, step)
        for wanted, step, given in zip(aim, layer.stride, folded.grid.fold, strict=True)
    )
    taps = layer.taps(folded.grid, (size[0], size[1]))
    return convolve_folded(layer, folded, layer.real_weight(), taps).in_blocks(aim)


def _conv_transpose(layer: ConvTranspose2d, folded: FoldedMap) -> FoldedMap:
    aim, whole = block_size(layer.real_out_channels), folded.in_blocks((1, 1))
    if aim == (1, 1):
        return FoldedMap.of(layer(whole.features))
    weight = layer.real_weight().transpose(0, 1)
    return convolve_folded(layer, whole, weight, layer.taps(whole.grid)).in_blocks(aim)


def convolve_folded(
    layer: Convolution, folded: FoldedMap, weight: Tensor, taps: tuple[AxisTaps, AxisTaps]
) -> FoldedMap:
    """Apply a convolution between blocks.

    Args:
        layer: Its bias, if any, is added.
        folded: The input.
        weight: The layer's real weight (O, I, taps, taps).
        taps: Of the layer, along bins and along frames, for this input.
    """
    bins, frames = taps
    padded = pad_blocks(folded.features, bins, folded.grid.fold, 2)
    padded = pad_blocks(padded, frames, folded.grid.fold, 3)
    grid = Grid(bins.result, frames.result)
    convolve = convolve_by_products if _is_exact(padded) else functional.conv2d
    output = convolve(padded, spread_weight(weight, bins, frames), stride=(bins.step, frames.step))
    if layer.bias is not None:
        bias = layer.bias.view(-1, 1).expand(-1, grid.block_size).reshape(-1, 1, 1)
        # as in the library's layers: bf16 under autocast, and so its gradient
        output = output + bias.to(output.dtype)
    return FoldedMap(output, grid)


def _is_exact(features: Tensor) -> bool:
    """Whether a convolution on a GPU computes with all bits: of float64 the library makes tens of times as slow."""
    if features.dtype == torch.float64:
        return features.is_cuda
    is_float32 = features.dtype == torch.float32 and not torch.is_autocast_enabled(features.device.type)
    return features.is_cuda and is_float32 and not _rounds_to_tf32()


@torch.compiler.assume_constant_result
def _rounds_to_tf32() -> bool:
    return torch.backends.cudnn.allow_tf32

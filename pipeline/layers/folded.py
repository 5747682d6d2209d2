"""Layers of a chain applied to folded maps; see `folding`. Weights stay those of the layers."""

from dataclasses import dataclass
from math import gcd

from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.conv import Conv2d, ConvTranspose2d
from pipeline.layers.convolution import Convolution
from pipeline.layers.folding import AxisTaps, Grid, Size, fold, pad_blocks, spread_weight, unfold
from pipeline.layers.phase_preserving import FreqModReLU
from pipeline.layers.residual import ResidualUnit

_FULL_WIDTH = 128  # channels from which on convolutions are fast by themselves
_LARGEST_BLOCK = 32


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
    """The block that makes so many real channels wide enough: bins and frames in turn, powers of two."""
    bins = frames = 1
    while num_channels * bins * frames * 2 <= _FULL_WIDTH and bins * frames * 2 <= _LARGEST_BLOCK:
        if bins <= frames:
            bins *= 2
        else:
            frames *= 2
    return bins, frames


def unfoldable(network: nn.Module) -> str | None:
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
        layers: `nn.Sequential` of layers that `unfoldable` passes.
        features: The map.
    """
    assert isinstance(layers, nn.Sequential)
    folded = FoldedMap.of(features)
    folded = folded.in_blocks(_entry_block(layers, folded.num_channels))
    return _chain(layers, folded).unfolded()


def _entry_block(layers: nn.Sequential, num_channels: int) -> Size:
    """The block of what the first convolution gives, if it keeps positions, so that nothing is folded anew."""
    first = layers[0]
    if isinstance(first, Conv2d):
        return block_size(first.weight.shape[-4] * (2 if first.style.complex_valued else 1))
    return block_size(num_channels)


def _chain(layers: nn.Sequential, folded: FoldedMap) -> FoldedMap:
    for layer in layers:
        folded = _layer(layer, folded)
    return folded


def _layer(layer: nn.Module, folded: FoldedMap) -> FoldedMap:
    if isinstance(layer, Conv2d):
        return _conv(layer, folded)
    if isinstance(layer, ConvTranspose2d):
        return _conv_transpose(layer, folded)
    if isinstance(layer, ResidualUnit):
        body = _chain(layer.body, folded)
        shortcut = folded if isinstance(layer.shortcut, nn.Identity) else _layer(layer.shortcut, folded)
        return FoldedMap(shortcut.features + body.features, body.grid)
    return _activation(layer, folded)


def _activation(layer: nn.Module, folded: FoldedMap) -> FoldedMap:
    """An activation sees channels and, as one axis more, the positions of a block."""
    if not any(True for _ in layer.parameters()):  # elementwise, of single parts or of pairs
        return FoldedMap(layer(folded.features), folded.grid)
    apart = folded.features.unflatten(1, (-1, folded.grid.block_size))
    return FoldedMap(layer(apart).flatten(1, 2), folded.grid)


def _conv(layer: Conv2d, folded: FoldedMap) -> FoldedMap:
    num_channels = layer.out_channels * (2 if layer.style.complex_valued else 1)
    keeps = layer.stride == (1, 1)
    aim = folded.grid.fold if keeps else block_size(num_channels)
    # whole input blocks for every output block
    size = tuple(
        wanted if wanted * step % given == 0 else given // gcd(given, step)
        for wanted, step, given in zip(aim, layer.stride, folded.grid.fold, strict=True)
    )
    weight = layer.real_weight()
    return _convolve(layer, folded, weight, layer.taps(folded.grid, (size[0], size[1]))).in_blocks(aim)


def _conv_transpose(layer: ConvTranspose2d, folded: FoldedMap) -> FoldedMap:
    num_channels = layer.out_channels * (2 if layer.style.complex_valued else 1)
    whole = folded.in_blocks((1, 1))
    weight = layer.real_weight().transpose(0, 1)
    return _convolve(layer, whole, weight, layer.taps(whole.grid)).in_blocks(block_size(num_channels))


def _convolve(
    layer: Convolution, folded: FoldedMap, weight: Tensor, taps: tuple[AxisTaps, AxisTaps]
) -> FoldedMap:
    bins, frames = taps
    padded = pad_blocks(folded.features, bins, folded.grid.fold, 2)
    padded = pad_blocks(padded, frames, folded.grid.fold, 3)
    grid = Grid(bins.result, frames.result)
    output = functional.conv2d(padded, spread_weight(weight, bins, frames), stride=(bins.step, frames.step))
    if layer.bias is not None:
        bias = layer.bias.view(-1, 1).expand(-1, grid.block_size).reshape(-1, 1, 1)
        output = output.add_(bias)
    return FoldedMap(output, grid)

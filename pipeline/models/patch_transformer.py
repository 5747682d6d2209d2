"""Transformers on spectrogram patches: one token for each patch of bins and frames.

Shapes at 1025 bins, 128 frames, patches of 16 x 4, width 128: 1025 x 128 -> 128 x 65 x 32 tokens -> dimension x 32.
Bins are filled up with zeros to whole patches, which the decoder cuts off again.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, section 3.1; axial attention Ho et al., Axial
Attention in Multidimensional Transformers, 2019, section 2.2.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from pipeline.dsp.length import pad_to_multiple, trim
from pipeline.layers.attention import TransformerBlock
from pipeline.layers.conv import Conv1d, Conv2d
from pipeline.layers.convolution import ConvStyle
from pipeline.layers.norm import build_feature_norm
from pipeline.models.base import SpectrogramDecoder, SpectrogramEncoder
from pipeline.models.geometry import check_patches

# The decoder starts near silence: most bins of audio are, and errors there would hide the signal's gradient.
_QUIET_START = 0.1
_EMBEDDING_DEVIATION = 0.02


@dataclass(frozen=True)
class _Shape:
    """What all blocks of a network share."""

    width: int
    num_heads: int
    mlp_ratio: int
    activation: str
    style: ConvStyle

    def block(self, style: ConvStyle) -> TransformerBlock:
        """A block over one sequence of tokens."""
        return TransformerBlock(
            self.width, self.num_heads, self.mlp_ratio * self.width, self.activation, style
        )


class _FullBlock(nn.Module):
    """Every patch sees all patches of the example, or all that are not later."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.block = shape.block(shape.style)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, channels, F, L) to the same shape."""
        num_bins, num_frames = tokens.shape[2:]
        frames = torch.arange(num_frames, device=tokens.device).expand(num_bins, -1).flatten()
        return self.block(tokens.flatten(2), frames).unflatten(2, (num_bins, num_frames))


class _AxialBlock(nn.Module):
    """Every patch sees those of its frame, then those of its bins: memory grows with F + L instead of F * L."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        self.across_bins = shape.block(replace(shape.style, causal=False))
        self.across_frames = shape.block(shape.style)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, channels, F, L) to the same shape."""
        batch, _, num_bins, num_frames = tokens.shape
        bins = torch.arange(num_bins, device=tokens.device)
        columns = self.across_bins(tokens.permute(0, 3, 1, 2).flatten(0, 1), bins)
        rows = columns.unflatten(0, (batch, num_frames)).permute(0, 3, 2, 1).flatten(0, 1)
        frames = torch.arange(num_frames, device=tokens.device)
        rows = self.across_frames(rows, frames)
        return rows.unflatten(0, (batch, num_bins)).transpose(1, 2)


class _Tokens(nn.Module):
    """A learned vector per row of patches, the blocks, and a last norm.

    Args:
        shape: What blocks share.
        depth: Blocks.
        attention: Which blocks.
        num_rows: Patches above each other.
    """

    def __init__(self, shape: _Shape, depth: int, attention: str, num_rows: int) -> None:
        super().__init__()
        complex_valued = shape.style.complex_valued
        channels = shape.width * (2 if complex_valued else 1)
        self.rows = nn.Parameter(torch.randn(channels, num_rows, 1) * _EMBEDDING_DEVIATION)
        kind = _AxialBlock if attention == "axial" else _FullBlock
        self.blocks = nn.Sequential(*(kind(shape) for _ in range(depth)))
        self.norm = build_feature_norm("layer_norm", shape.width, complex_valued=complex_valued, causal=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, channels, F, L) to the same shape."""
        tokens = self.blocks(tokens + self.rows)
        return self.norm(tokens.flatten(2)).unflatten(2, tokens.shape[2:])


class PatchTransformerEncoder(SpectrogramEncoder):
    """Stacked spectrograms (B, 2C, F, T) to latents (B, D, L) with L = T / patch frames.

    Args:
        patch_size: Bins and frames of a patch.
        width: Channels of a token, complex ones in a complex network.
        depth: Blocks.
        num_heads: Attention heads; divides the width.
        attention: "full": over all patches; "axial": along frequency, then along time.
        mlp_ratio: Channels inside a block, in widths.
        activation: Elementwise class of torch.nn, or a name of `pipeline.layers`.
        dimension: Latent channels, complex ones in a complex network.
        complex_valued: Whether features are complex (stacked pairs) or plain real channels.
        causal: Whether no latent frame sees spectrogram frames beyond its own patch.
        in_channels: Audio channels C, from the data.
        num_bins: Frequency bins F, from the STFT.

    Raises:
        ConfigError: A parameter does not fit another one, or a name is unknown.
    """

    has_global_statistics = True

    def __init__(
        self,
        patch_size: list[PositiveInt],
        width: PositiveInt,
        depth: PositiveInt,
        num_heads: PositiveInt,
        attention: Literal["full", "axial"],
        mlp_ratio: PositiveInt,
        activation: str,
        dimension: PositiveInt,
        complex_valued: bool,
        causal: bool = False,
        *,
        in_channels: int,
        num_bins: int,
    ) -> None:
        check_patches(num_bins, patch_size, width, num_heads, activation, complex_valued)
        super().__init__()
        style = ConvStyle(complex_valued, causal=causal)
        self.dimension, self.complex_valued = dimension, complex_valued
        self.latent_channels = dimension * (2 if complex_valued else 1)
        self.patch_bins, self.time_stride = patch_size
        num_rows = -(-num_bins // self.patch_bins)
        first_channels = in_channels if complex_valued else 2 * in_channels
        patch = (self.patch_bins, self.time_stride)
        self.embedding = Conv2d(first_channels, width, patch, stride=patch, style=style)
        shape = _Shape(width, num_heads, mlp_ratio, activation, style)
        self.tokens = _Tokens(shape, depth, attention, num_rows)
        self.projection = Conv1d(width * num_rows, dimension, 1, style=style)

    @property
    def receptive_field_frames(self) -> int:
        """Frames of a patch; attention sees all of them."""
        return self.time_stride

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, F, T), T a multiple of `time_stride`, to (B, latent_channels, T / time_stride)."""
        num_frames = stacked.shape[-1]
        assert num_frames % self.time_stride == 0, f"{num_frames} frames at stride {self.time_stride}"
        tokens = self.tokens(self.embedding(pad_to_multiple(stacked, self.patch_bins, 2)))
        return self.projection(tokens.flatten(1, 2))


class PatchTransformerDecoder(SpectrogramDecoder):
    """Latents (B, D, L) to stacked spectrograms (B, 2C, F, T) with T = L * patch frames; mirrors the encoder.

    Args:
        patch_size: Bins and frames of a patch.
        width: Channels of a token, complex ones in a complex network.
        depth: Blocks.
        num_heads: Attention heads; divides the width.
        attention: "full": over all patches; "axial": along frequency, then along time.
        mlp_ratio: Channels inside a block, in widths.
        activation: Elementwise class of torch.nn, or a name of `pipeline.layers`.
        dimension: Latent channels after the bottleneck, complex ones in a complex network.
        complex_valued: Whether features are complex (stacked pairs) or plain real channels.
        causal: Whether no output frame sees latent frames beyond the one it comes from.
        out_channels: Audio channels C, from the data.
        num_bins: Frequency bins F, from the STFT.

    Raises:
        ConfigError: A parameter does not fit another one, or a name is unknown.
    """

    has_global_statistics = True

    def __init__(
        self,
        patch_size: list[PositiveInt],
        width: PositiveInt,
        depth: PositiveInt,
        num_heads: PositiveInt,
        attention: Literal["full", "axial"],
        mlp_ratio: PositiveInt,
        activation: str,
        dimension: PositiveInt,
        complex_valued: bool,
        causal: bool = False,
        *,
        out_channels: int,
        num_bins: int,
    ) -> None:
        check_patches(num_bins, patch_size, width, num_heads, activation, complex_valued)
        super().__init__()
        style = ConvStyle(complex_valued, causal=causal)
        self.dimension, self.complex_valued = dimension, complex_valued
        self.latent_channels = dimension * (2 if complex_valued else 1)
        self.patch_bins, self.time_stride = patch_size
        self.num_bins, self.num_rows = num_bins, -(-num_bins // self.patch_bins)
        self.projection = Conv1d(dimension, width * self.num_rows, 1, style=style)
        shape = _Shape(width, num_heads, mlp_ratio, activation, style)
        self.tokens = _Tokens(shape, depth, attention, self.num_rows)
        last_channels = out_channels if complex_valued else 2 * out_channels
        values = last_channels * self.patch_bins * self.time_stride
        self.patches = Conv2d(width, values, (1, 1), style=style, gain=_QUIET_START)

    @property
    def receptive_field_frames(self) -> int:
        """Frames of a patch; attention sees all of them."""
        return self.time_stride

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, latent_channels, L) to (B, 2C, F, L * time_stride)."""
        tokens = self.tokens(self.projection(latents).unflatten(1, (-1, self.num_rows)))
        # Channels stay the slowest axis of what is unpacked, and so does the order [all re | all im].
        patches = self.patches(tokens).unflatten(1, (-1, self.patch_bins, self.time_stride))
        return trim(patches.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3), self.num_bins, 2)

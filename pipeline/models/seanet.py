"""SEANet on spectrograms: 2-D convolutions down to a few bins per frame, then a 1-D projection to latents.

Shapes at the full size (n_fft 2048, 128 frames, ratios [[4, 2], [1, 2], [4, 2]], n_filters 8):
8x1025x128 -> 16x256x64 -> 32x256x32 -> 64x64x16 -> 4096x16 -> dimension x 16, and back in mirrored order.

Source: Tagliasacchi et al., SEANet, Interspeech 2020; Defossez et al., EnCodec, 2022; in two dimensions Du et
al., FunCodec, 2023.
"""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from pipeline.layers.activation import build_activation
from pipeline.layers.conv import Conv1d, Conv2d, ConvStyle, ConvTranspose2d
from pipeline.layers.receptive_field import receptive_field
from pipeline.layers.residual import residual_stack
from pipeline.models.geometry import check_seanet, frequency_path, time_stride

# The decoder starts near silence: most bins of audio are, and errors there would hide the signal's gradient.
_QUIET_START = 0.1


class SEANetEncoder(nn.Module):
    """Stacked spectrograms (B, 2C, F, T) to latents (B, D, L) with L = T / time_stride.

    Args:
        ratios: Strides [[frequency, time], ...] in decoder order, applied here from last to first. Each level
            doubles the channels.
        n_filters: Channels of the first level.
        n_residual_layers: Residual units per level.
        kernel_size: Taps of the first convolution, on both axes.
        last_kernel_size: Taps of the 1-D projection to latents.
        residual_kernel_size: Taps of the residual units, on both axes.
        dilation_base: The j-th residual unit of a level is dilated in time by dilation_base^j.
        compress: Divides the channels inside a residual unit.
        true_skip: Identity shortcuts instead of 1x1 convolutions.
        norm: Normalisation of every convolution. The projection has no group norm, which would fix the level
            of the latents.
        activation: Elementwise class of torch.nn, or CReLU or modReLU in a complex network.
        pad_mode: What convolutions see beyond the edges.
        dimension: Latent channels, complex ones in a complex network.
        latent_fbins: Frequency bins at the end; a check, since they follow from the STFT and the ratios.
        complex_valued: Whether features are complex (stacked pairs) or plain real channels.
        in_channels: Audio channels C, from the data.
        num_bins: Frequency bins F, from the STFT.

    Raises:
        ConfigError: A parameter does not fit another one, or a name is unknown.
    """

    def __init__(
        self,
        ratios: list[list[PositiveInt]],
        n_filters: PositiveInt,
        n_residual_layers: NonNegativeInt,
        kernel_size: PositiveInt,
        last_kernel_size: PositiveInt,
        residual_kernel_size: PositiveInt,
        dilation_base: PositiveInt,
        compress: PositiveInt,
        true_skip: bool,
        norm: Literal["none", "weight_norm", "group_norm"],
        activation: str,
        pad_mode: Literal["reflect", "zeros"],
        dimension: PositiveInt,
        latent_fbins: PositiveInt,
        complex_valued: bool,
        *,
        in_channels: int,
        num_bins: int,
    ) -> None:
        check_seanet(num_bins, ratios, latent_fbins, n_filters, compress, activation, complex_valued)
        super().__init__()
        style = ConvStyle(complex_valued, norm, pad_mode)
        self.dimension, self.complex_valued = dimension, complex_valued
        self.latent_channels = dimension * (2 if complex_valued else 1)
        self.time_stride = time_stride(ratios)
        self.has_global_statistics = norm == "group_norm"
        residual_units = partial(
            residual_stack,
            num_units=n_residual_layers,
            kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            compress=compress,
            true_skip=true_skip,
            activation=activation,
            style=style,
        )

        channels = n_filters
        first_channels = in_channels if complex_valued else 2 * in_channels
        layers: list[nn.Module] = [Conv2d(first_channels, channels, (kernel_size, kernel_size), style=style)]
        for frequency, time in reversed(ratios):
            layers += residual_units(channels)
            layers.append(build_activation(activation, complex_valued, channels))
            kernel = (2 * frequency, 2 * time)
            layers.append(Conv2d(channels, 2 * channels, kernel, stride=(frequency, time), style=style))
            channels *= 2
        layers.append(build_activation(activation, complex_valued, channels))
        self.levels = nn.Sequential(*layers)
        self.projection = Conv1d(
            channels * latent_fbins, dimension, last_kernel_size, style=_without_group_norm(style)
        )

    @property
    def receptive_field_frames(self) -> int:
        """Spectrogram frames that can influence one latent frame."""
        return receptive_field(self)

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, F, T), T a multiple of `time_stride`, to (B, latent_channels, T / time_stride)."""
        num_frames = stacked.shape[-1]
        assert num_frames % self.time_stride == 0, f"{num_frames} frames at stride {self.time_stride}"
        features = self.levels(_channels_last(stacked))
        # Packing bins into channels keeps the order [all re | all im], because channels are the slower axis.
        return self.projection(features.flatten(1, 2))


class SEANetDecoder(nn.Module):
    """Latents (B, D, L) to stacked spectrograms (B, 2C, F, T) with T = L * time_stride; mirrors the encoder.

    A level gives back the bins that the encoder's level had dropped, so that F is exact. Nothing follows the
    last convolution, neither activation nor group norm.

    Args:
        ratios: Strides [[frequency, time], ...], applied from first to last. Each level halves the channels.
        n_filters: Channels of the last level.
        n_residual_layers: Residual units per level.
        kernel_size: Taps of the 1-D projection from latents.
        last_kernel_size: Taps of the last convolution, on both axes.
        residual_kernel_size: Taps of the residual units, on both axes.
        dilation_base: The j-th residual unit of a level is dilated in time by dilation_base^j.
        compress: Divides the channels inside a residual unit.
        true_skip: Identity shortcuts instead of 1x1 convolutions.
        norm: Normalisation of every convolution but the last, which has no group norm.
        activation: Elementwise class of torch.nn, or CReLU or modReLU in a complex network.
        pad_mode: What convolutions see beyond the edges.
        dimension: Latent channels after the bottleneck, complex ones in a complex network.
        latent_fbins: Frequency bins at the start; a check, since they follow from the STFT and the ratios.
        complex_valued: Whether features are complex (stacked pairs) or plain real channels.
        out_channels: Audio channels C, from the data.
        num_bins: Frequency bins F, from the STFT.

    Raises:
        ConfigError: A parameter does not fit another one, or a name is unknown.
    """

    def __init__(
        self,
        ratios: list[list[PositiveInt]],
        n_filters: PositiveInt,
        n_residual_layers: NonNegativeInt,
        kernel_size: PositiveInt,
        last_kernel_size: PositiveInt,
        residual_kernel_size: PositiveInt,
        dilation_base: PositiveInt,
        compress: PositiveInt,
        true_skip: bool,
        norm: Literal["none", "weight_norm", "group_norm"],
        activation: str,
        pad_mode: Literal["reflect", "zeros"],
        dimension: PositiveInt,
        latent_fbins: PositiveInt,
        complex_valued: bool,
        *,
        out_channels: int,
        num_bins: int,
    ) -> None:
        check_seanet(num_bins, ratios, latent_fbins, n_filters, compress, activation, complex_valued)
        super().__init__()
        style = ConvStyle(complex_valued, norm, pad_mode)
        self.dimension, self.complex_valued = dimension, complex_valued
        self.latent_channels = dimension * (2 if complex_valued else 1)
        self.latent_fbins, self.time_stride = latent_fbins, time_stride(ratios)
        self.has_global_statistics = norm == "group_norm"
        residual_units = partial(
            residual_stack,
            num_units=n_residual_layers,
            kernel_size=residual_kernel_size,
            dilation_base=dilation_base,
            compress=compress,
            true_skip=true_skip,
            activation=activation,
            style=style,
        )

        channels = n_filters * 2 ** len(ratios)
        self.projection = Conv1d(dimension, channels * latent_fbins, kernel_size, style=style)
        layers: list[nn.Module] = []
        bins = frequency_path(num_bins, ratios)[::-1]
        for (frequency, time), bins_in, bins_out in zip(ratios, bins[:-1], bins[1:], strict=True):
            layers.append(build_activation(activation, complex_valued, channels))
            extra = bins_out - bins_in * frequency
            stride = (frequency, time)
            layers.append(ConvTranspose2d(channels, channels // 2, stride, extra_bins=extra, style=style))
            channels //= 2
            layers += residual_units(channels)
        layers.append(build_activation(activation, complex_valued, channels))
        last_channels = out_channels if complex_valued else 2 * out_channels
        kernel = (last_kernel_size, last_kernel_size)
        last_style = _without_group_norm(style)
        layers.append(Conv2d(channels, last_channels, kernel, style=last_style, gain=_QUIET_START))
        self.levels = nn.Sequential(*layers)

    @property
    def receptive_field_frames(self) -> int:
        """Spectrogram frames spanned by the latent frames that can influence one output frame."""
        return receptive_field(self) * self.time_stride

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, latent_channels, L) to (B, 2C, F, L * time_stride)."""
        features = self.projection(latents).unflatten(1, (-1, self.latent_fbins))
        return self.levels(_channels_last(features))


def _channels_last(features: Tensor) -> Tensor:
    """The memory layout that convolutions pass on; a training step takes 10 to 20 % less time with it."""
    return features.contiguous(memory_format=torch.channels_last)


def _without_group_norm(style: ConvStyle) -> ConvStyle:
    return replace(style, norm="none") if style.norm == "group_norm" else style

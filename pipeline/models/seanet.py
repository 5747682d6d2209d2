"""SEANet on spectrograms: 2-D convolutions down to a few bins per frame, then a 1-D projection to latents.

Shapes at the full size (n_fft 2048, 128 frames, ratios [[4, 2], [1, 2], [4, 2]], n_filters 8):
8x1025x128 -> 16x256x64 -> 32x256x32 -> 64x64x16 -> 4096x16 -> dimension x 16, and back in mirrored order.

Source: Tagliasacchi et al., SEANet, Interspeech 2020; Defossez et al., EnCodec, 2022; in two dimensions Du et
al., FunCodec, 2023.
"""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from pipeline.layers.conv import Conv1d, Conv2d, ConvTranspose2d
from pipeline.layers.convolution import ConvStyle
from pipeline.layers.folded import cannot_fold
from pipeline.layers.receptive_field import receptive_field
from pipeline.layers.sequence import build_sequence_model
from pipeline.models.base import SpectrogramDecoder, SpectrogramEncoder
from pipeline.models.geometry import check_seanet, check_seanet_options, frequency_path, time_stride
from pipeline.models.seanet_levels import Levels, apply_levels

# The decoder starts near silence: most bins of audio are, and errors there would hide the signal's gradient.
_QUIET_START = 0.1


class SEANetEncoder(SpectrogramEncoder):
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
        norm: Normalisation of every convolution. The projection has no norm of its output, which would fix the
            level of the latents.
        activation: Elementwise class of torch.nn, or a name of `pipeline.layers`.
        pad_mode: What convolutions see beyond the edges.
        dimension: Latent channels, complex ones in a complex network.
        latent_fbins: Frequency bins at the end; a check, since they follow from the STFT and the ratios.
        complex_valued: Whether features are complex (stacked pairs) or plain real channels.
        causal: Whether no latent frame sees spectrogram frames beyond its own.
        residual_groups: Groups of channels of the residual units' first convolutions.
        double_final_conv: Two last convolutions with an activation between them instead of one.
        sequence_model: What the latents pass through: an LSTM or a transformer.
        sequence_layers: Layers of that.
        sequence_heads: Attention heads of a transformer.
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
        norm: Literal["none", "weight_norm", "spectral_norm", "group_norm", "layer_norm", "batch_norm"],
        activation: str,
        pad_mode: Literal["reflect", "zeros"],
        dimension: PositiveInt,
        latent_fbins: PositiveInt,
        complex_valued: bool,
        causal: bool = False,
        residual_groups: PositiveInt = 1,
        double_final_conv: bool = False,
        sequence_model: Literal["none", "lstm", "transformer"] = "none",
        sequence_layers: PositiveInt = 2,
        sequence_heads: PositiveInt = 4,
        *,
        in_channels: int,
        num_bins: int,
    ) -> None:
        check_seanet(num_bins, ratios, latent_fbins, n_filters, compress, activation, complex_valued)
        widths = (n_filters, len(ratios), compress, n_residual_layers, residual_groups)
        check_seanet_options(*widths, dimension, sequence_model, sequence_heads, complex_valued)
        super().__init__()
        style = ConvStyle(complex_valued, norm, pad_mode, causal)
        units = (n_residual_layers, residual_kernel_size, dilation_base, compress, true_skip, residual_groups)
        parts = Levels(style, activation, *units)
        self.dimension, self.complex_valued = dimension, complex_valued
        self.latent_channels = dimension * (2 if complex_valued else 1)
        self.time_stride = time_stride(ratios)
        self.has_global_statistics = parts.sees_all_frames(sequence_model)

        channels = n_filters
        first_channels = in_channels if complex_valued else 2 * in_channels
        layers: list[nn.Module] = [Conv2d(first_channels, channels, (kernel_size, kernel_size), style=style)]
        bins = frequency_path(num_bins, ratios)
        for (frequency, time), bins_in in zip(reversed(ratios), bins[:-1], strict=True):
            layers += parts.residual_units(channels, bins_in)
            layers.append(parts.activate(channels, bins_in))
            kernel = (2 * frequency, 2 * time)
            layers.append(Conv2d(channels, 2 * channels, kernel, stride=(frequency, time), style=style))
            channels *= 2
        layers.append(parts.activate(channels, bins[-1]))
        self.levels = nn.Sequential(*layers)
        packed = channels * latent_fbins
        self.projection = parts.to_latents(packed, dimension, last_kernel_size, double_final_conv)
        sequence = (sequence_layers, sequence_heads, activation, style)
        self.sequence = build_sequence_model(sequence_model, dimension, *sequence)

    @property
    def cannot_fold(self) -> str | None:
        """Why it cannot fold positions into channels; None if it can."""
        return cannot_fold(self.levels)

    @property
    def receptive_field_frames(self) -> int:
        """Spectrogram frames that can influence one latent frame."""
        return receptive_field(self)

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, F, T), T a multiple of `time_stride`, to (B, latent_channels, T / time_stride)."""
        num_frames = stacked.shape[-1]
        assert num_frames % self.time_stride == 0, f"{num_frames} frames at stride {self.time_stride}"
        folds = self.folds and self.training
        # Packing bins into channels keeps the order [all re | all im], because channels are the slower axis.
        packed = apply_levels(self.levels, stacked, folds).flatten(1, 2)
        return self.sequence(self.projection(packed))


class SEANetDecoder(SpectrogramDecoder):
    """Latents (B, D, L) to stacked spectrograms (B, 2C, F, T) with T = L * time_stride; mirrors the encoder.

    A level gives back the bins that the encoder's level had dropped, so that F is exact. Nothing follows the
    last convolution, neither activation nor a norm.

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
        norm: Normalisation of every convolution but the last, whose output has none.
        activation: Elementwise class of torch.nn, or a name of `pipeline.layers`.
        pad_mode: What convolutions see beyond the edges.
        dimension: Latent channels after the bottleneck, complex ones in a complex network.
        latent_fbins: Frequency bins at the start; a check, since they follow from the STFT and the ratios.
        complex_valued: Whether features are complex (stacked pairs) or plain real channels.
        causal: Whether no output frame sees latent frames beyond the one it comes from.
        residual_groups: Groups of channels of the residual units' first convolutions.
        double_final_conv: Two last convolutions with an activation between them instead of one.
        sequence_model: What the latents pass through: an LSTM or a transformer.
        sequence_layers: Layers of that.
        sequence_heads: Attention heads of a transformer.
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
        norm: Literal["none", "weight_norm", "spectral_norm", "group_norm", "layer_norm", "batch_norm"],
        activation: str,
        pad_mode: Literal["reflect", "zeros"],
        dimension: PositiveInt,
        latent_fbins: PositiveInt,
        complex_valued: bool,
        causal: bool = False,
        residual_groups: PositiveInt = 1,
        double_final_conv: bool = False,
        sequence_model: Literal["none", "lstm", "transformer"] = "none",
        sequence_layers: PositiveInt = 2,
        sequence_heads: PositiveInt = 4,
        *,
        out_channels: int,
        num_bins: int,
    ) -> None:
        check_seanet(num_bins, ratios, latent_fbins, n_filters, compress, activation, complex_valued)
        widths = (n_filters, len(ratios), compress, n_residual_layers, residual_groups)
        check_seanet_options(*widths, dimension, sequence_model, sequence_heads, complex_valued)
        super().__init__()
        style = ConvStyle(complex_valued, norm, pad_mode, causal)
        units = (n_residual_layers, residual_kernel_size, dilation_base, compress, true_skip, residual_groups)
        parts = Levels(style, activation, *units)
        self.dimension, self.complex_valued = dimension, complex_valued
        self.latent_channels = dimension * (2 if complex_valued else 1)
        self.latent_fbins, self.time_stride = latent_fbins, time_stride(ratios)
        self.has_global_statistics = parts.sees_all_frames(sequence_model)

        channels = n_filters * 2 ** len(ratios)
        sequence = (sequence_layers, sequence_heads, activation, style)
        self.sequence = build_sequence_model(sequence_model, dimension, *sequence)
        self.projection = Conv1d(dimension, channels * latent_fbins, kernel_size, style=style)
        layers: list[nn.Module] = []
        bins = frequency_path(num_bins, ratios)[::-1]
        for (frequency, time), bins_in, bins_out in zip(ratios, bins[:-1], bins[1:], strict=True):
            layers.append(parts.activate(channels, bins_in))
            extra = bins_out - bins_in * frequency
            stride = (frequency, time)
            layers.append(ConvTranspose2d(channels, channels // 2, stride, extra_bins=extra, style=style))
            channels //= 2
            layers += parts.residual_units(channels, bins_out)
        layers.append(parts.activate(channels, num_bins))
        last = (channels, out_channels if complex_valued else 2 * out_channels, num_bins)
        layers += parts.to_spectrogram(*last, last_kernel_size, _QUIET_START, double_final_conv)
        self.levels = nn.Sequential(*layers)

    @property
    def cannot_fold(self) -> str | None:
        """Why it cannot fold positions into channels; None if it can."""
        return cannot_fold(self.levels)

    @property
    def receptive_field_frames(self) -> int:
        """Spectrogram frames spanned by the latent frames that can influence one output frame."""
        return receptive_field(self) * self.time_stride

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, latent_channels, L) to (B, 2C, F, L * time_stride)."""
        folds = self.folds and self.training
        packed = self.projection(self.sequence(latents))
        return apply_levels(self.levels, packed.unflatten(1, (-1, self.latent_fbins)), folds)

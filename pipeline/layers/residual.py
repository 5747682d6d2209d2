"""The residual unit of SEANet."""

from torch import Tensor, nn

from pipeline.layers.activation import build_activation
from pipeline.layers.conv import Conv2d, ConvStyle


class ResidualUnit(nn.Module):
    """Maps x to shortcut(x) + conv1x1(act(conv(act(x)))), the first convolution dilated in time.

    Args:
        num_channels: Channels in and out.
        hidden_channels: Channels between the two convolutions.
        kernel_size: Taps of the first convolution on both axes.
        time_dilation: Distance between its taps in time.
        num_bins: Frequency bins of the features.
        true_skip: Whether the shortcut is the identity instead of a 1x1 convolution.
        activation: Name, see `build_activation`.
        style: What the network's convolutions share.
        groups: Groups of channels of the first convolution.

    Source: Tagliasacchi et al., SEANet, Interspeech 2020; Defossez et al., EnCodec, 2022, section 3.1.
    """

    def __init__(
        self,
        num_channels: int,
        hidden_channels: int,
        kernel_size: int,
        time_dilation: int,
        *,
        num_bins: int,
        true_skip: bool,
        activation: str,
        style: ConvStyle,
        groups: int = 1,
    ) -> None:
        super().__init__()
        kernel, dilation = (kernel_size, kernel_size), (1, time_dilation)
        self.body = nn.Sequential(
            build_activation(activation, style.complex_valued, num_channels, num_bins),
            Conv2d(num_channels, hidden_channels, kernel, dilation=dilation, style=style, groups=groups),
            build_activation(activation, style.complex_valued, hidden_channels, num_bins),
            Conv2d(hidden_channels, num_channels, (1, 1), style=style),
        )
        self.shortcut = (
            nn.Identity() if true_skip else Conv2d(num_channels, num_channels, (1, 1), style=style)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels, F, T) to the same shape."""
        return self.shortcut(features) + self.body(features)


def residual_stack(
    num_channels: int,
    num_bins: int,
    *,
    num_units: int,
    kernel_size: int,
    dilation_base: int,
    compress: int,
    true_skip: bool,
    activation: str,
    style: ConvStyle,
    groups: int = 1,
) -> list[ResidualUnit]:
    """Units in a row, the j-th dilated in time by dilation_base^j, `compress` times narrower inside."""
    return [
        ResidualUnit(
            num_channels,
            num_channels // compress,
            kernel_size,
            dilation_base**depth,
            num_bins=num_bins,
            true_skip=true_skip,
            activation=activation,
            style=style,
            groups=groups,
        )
        for depth in range(num_units)
    ]

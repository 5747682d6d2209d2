"""Builds the non-linearities of real channels and of stacked complex ones."""

from torch import nn

from pipeline.config.registry import load
from pipeline.layers import COMPLEX_ACTIVATIONS, REAL_ACTIVATIONS
from pipeline.layers.activation_names import PER_BIN, check_activation


class CReLU(nn.ReLU):
    """relu(Re z) + i relu(Im z): on stacked parts, the plain ReLU.

    Source: Trabelsi et al., Deep Complex Networks, ICLR 2018, section 3.4.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        del num_channels  # every complex activation is built from its channel count


def build_activation(
    name: str, complex_valued: bool, num_channels: int, num_bins: int | None = None
) -> nn.Module:
    """Builds an activation from its name.

    Args:
        name: An elementwise class of torch.nn, which a complex network applies to real and imaginary parts
            alike; or a name of `REAL_ACTIVATIONS` or `COMPLEX_ACTIVATIONS`.
        complex_valued: Whether channels are stacked complex ones.
        num_channels: Channels, complex ones in a complex network.
        num_bins: Frequency bins of the features; None where they have no frequency axis, and where an
            activation per bin becomes the one per channel.

    Raises:
        ConfigError: The name is no elementwise activation.
    """
    check_activation(name, complex_valued)
    if name in PER_BIN:
        if num_bins is not None:
            return load(COMPLEX_ACTIVATIONS[name])(num_channels, num_bins)
        name = PER_BIN[name]
    own = COMPLEX_ACTIVATIONS if complex_valued else REAL_ACTIVATIONS
    if name in own:
        return load(own[name])(num_channels)
    if name in REAL_ACTIVATIONS:  # in a complex network, for each part by itself
        return load(REAL_ACTIVATIONS[name])(2 * num_channels)
    return getattr(nn, name)()

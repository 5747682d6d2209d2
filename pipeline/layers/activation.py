"""Elementwise non-linearities for real channels and for stacked complex ones."""

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import magnitude_squared, scale_by
from pipeline.dsp.precision import at_least_float32
from pipeline.layers import COMPLEX_ACTIVATIONS
from pipeline.layers.activation_names import check_activation

MODRELU_THRESHOLD = 1e-4


class CReLU(nn.ReLU):
    """relu(Re z) + i relu(Im z): on stacked parts, the plain ReLU.

    Source: Trabelsi et al., Deep Complex Networks, ICLR 2018, section 3.4.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        del num_channels  # every complex activation is built from its channel count


class ModReLU(nn.Module):
    """relu(|z| + b) z / |z| with one learned b per channel: thresholds magnitudes, keeps phases.

    It starts with b = 0, the identity. The factor relu(1 + b / |z|) is taken with |z| held above a threshold,
    so that values and gradients are finite at z = 0; only magnitudes below the threshold are touched by that.

    Args:
        num_channels: Complex channels C.

    Source: Arjovsky, Shah, Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016, equation 8.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape."""
        power = magnitude_squared(at_least_float32(stacked))
        magnitude = power.clamp_min(MODRELU_THRESHOLD**2).sqrt()
        bias = self.bias.view(-1, *(1,) * (stacked.dim() - 2))
        return scale_by(stacked, torch.relu(1 + bias / magnitude).to(stacked.dtype))


def build_activation(name: str, complex_valued: bool, num_channels: int) -> nn.Module:
    """Builds an activation from its name.

    Args:
        name: An elementwise class of torch.nn, which a complex network applies to real and imaginary parts
            alike; for complex networks also "CReLU" or "modReLU".
        complex_valued: Whether channels are stacked complex ones.
        num_channels: Channels, complex ones in a complex network.

    Raises:
        ConfigError: The name is no elementwise activation.
    """
    check_activation(name, complex_valued)
    if name in COMPLEX_ACTIVATIONS:
        return {"CReLU": CReLU, "modReLU": ModReLU}[name](num_channels)
    return getattr(nn, name)()

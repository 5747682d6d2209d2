"""Normalisation within each example: over groups of channels, or frame by frame."""

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import join, split
from pipeline.dsp.precision import at_least_float32
from pipeline.layers.batch_norm import BatchNorm, ComplexBatchNorm
from pipeline.layers.whitening import ComplexAffine, Triple, inverse_root, mean_product


class ComplexGroupNorm(ComplexAffine):
    """Removes the mean of each group of complex channels and whitens the 2x2 covariance of its parts.

    y = Gamma V^(-1/2) (z - mean) + bias, where V is the covariance of (Re z, Im z) over the group's channels
    and all later axes, V^(-1/2) its symmetric inverse root in closed form, and Gamma a learned symmetric 2x2
    matrix per channel that starts as the identity. Scaling each part by its own deviation would leave them
    correlated.

    Args:
        num_groups: Groups; divides `num_channels`.
        num_channels: Complex channels C.
        eps: Added to both variances.

    Source: Trabelsi et al., Deep Complex Networks, ICLR 2018, section 3.5 (there over the batch).
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(num_channels)
        assert num_channels % num_groups == 0, f"{num_channels} channels in {num_groups} groups"
        self.num_groups, self.eps = num_groups, eps

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape; the statistics are never in half precision."""
        stacked = at_least_float32(stacked)
        parts = stacked.unflatten(1, (2, self.num_groups, -1)).flatten(4)  # (B, 2, G, C/G, everything later)
        centred = parts - parts.mean(dim=(3, 4), keepdim=True)
        real, imag = (part.squeeze(1) for part in split(centred))
        mixed = self.apply_to(real, imag, _whitener(real, imag, (2, 3), self.eps), (self.num_groups, -1, 1))
        return join(mixed[0].flatten(1), mixed[1].flatten(1)).view_as(stacked)


class FrameNorm(nn.Module):
    """Layer norm of real features: one mean and deviation for each frame, over its channels and bins.

    y = gamma (x - mean) / sqrt(var + eps) + beta with gamma, beta per channel. No frame sees another one.

    Args:
        num_channels: Channels C.
        eps: Added to the variance.

    Source: Ba, Kiros, Hinton, Layer Normalization, 2016, section 3; a frame is one step of the sequence.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, ..., T) to the same shape; the statistics are never in half precision."""
        features = at_least_float32(features)
        dims = tuple(range(1, features.dim() - 1))
        centred = features - features.mean(dim=dims, keepdim=True)
        deviation = (centred.square().mean(dim=dims, keepdim=True) + self.eps).rsqrt()
        shape = (-1, *(1,) * (features.dim() - 2))
        return centred * deviation * self.weight.view(shape) + self.bias.view(shape)


class ComplexFrameNorm(ComplexAffine):
    """Layer norm of complex features: whitens each frame over its channels and bins.

    y = Gamma V^(-1/2) (z - mean) + bias, as `ComplexGroupNorm`, with mean and V of every frame by itself.

    Args:
        num_channels: Complex channels C.
        eps: Added to both variances.

    Source: Trabelsi et al., Deep Complex Networks, ICLR 2018, section 3.5; over a frame as Ba et al., 2016.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(num_channels)
        self.eps = eps

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ..., T) to the same shape; the statistics are never in half precision."""
        dims = tuple(range(1, stacked.dim() - 1))
        real, imag = (part - part.mean(dim=dims, keepdim=True) for part in split(at_least_float32(stacked)))
        shape = (-1, *(1,) * (stacked.dim() - 2))
        return join(*self.apply_to(real, imag, _whitener(real, imag, dims, self.eps), shape))


def _whitener(real: Tensor, imag: Tensor, dims: tuple[int, ...], eps: float) -> Triple:
    """V^(-1/2) of centred parts over axes, in float64."""
    var_real, var_imag = (mean_product(part, part, dims) + eps for part in (real, imag))
    return inverse_root(var_real, var_imag, mean_product(real, imag, dims), eps)


def build_group_norm(num_channels: int, complex_valued: bool) -> nn.Module:
    """Group norm with a single group: one mean and one scale (or whitening) per example."""
    return ComplexGroupNorm(1, num_channels) if complex_valued else nn.GroupNorm(1, num_channels)


def build_feature_norm(name: str, num_channels: int, *, complex_valued: bool, causal: bool) -> nn.Module:
    """The norm of a convolution's output.

    Args:
        name: "group_norm", "layer_norm" or "batch_norm".
        num_channels: Channels, complex ones in a complex network.
        complex_valued: Whether channels are stacked complex ones.
        causal: Whether no frame may see a later one. A group norm, which otherwise spans all frames, then
            takes its statistics frame by frame and is the layer norm.
    """
    if name == "batch_norm":
        return ComplexBatchNorm(num_channels) if complex_valued else BatchNorm(num_channels)
    if name == "group_norm" and not causal:
        return build_group_norm(num_channels, complex_valued)
    return ComplexFrameNorm(num_channels) if complex_valued else FrameNorm(num_channels)

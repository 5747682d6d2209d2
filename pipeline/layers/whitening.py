"""Whitening of the real and imaginary parts of complex channels by their 2x2 covariance."""

import math

import torch
from torch import Tensor, nn

Triple = tuple[Tensor, Tensor, Tensor]
"""A symmetric 2x2 matrix: real-real, imaginary-imaginary, real-imaginary."""


def mean_product(first: Tensor, second: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean over axes, which stay with length 1, summed in float64.

    The determinant of correlated parts is a small difference of large numbers.
    """
    num_elements = math.prod(first.shape[dim] for dim in dims)
    return (first * second).sum(dim=dims, keepdim=True, dtype=torch.float64) / num_elements


def inverse_root(var_real: Tensor, var_imag: Tensor, covariance: Tensor, eps: float) -> Triple:
    """V^(-1/2) in closed form, symmetric, of any shape.

    V^(-1/2) = [[Vii + s, -Vri], [-Vri, Vrr + s]] / (s t) with s = sqrt(det V), t = sqrt(trace V + 2 s).

    Args:
        var_real: Vrr, with `eps` added.
        var_imag: Vii, with `eps` added.
        covariance: Vri.
        eps: What was added to both variances.
    """
    # Rounding can push the determinant of fully correlated parts below its smallest true value, eps^2.
    root = (var_real * var_imag - covariance * covariance).clamp_min(eps**2).sqrt()
    scale = 1 / (root * (var_real + var_imag + 2 * root).sqrt())
    return (var_imag + root) * scale, (var_real + root) * scale, -covariance * scale


def mixing(gamma: Triple, whitener: Triple) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gamma V^(-1/2) row by row; the product is not symmetric in general."""
    white_rr, white_ii, white_ri = whitener
    gamma_rr, gamma_ii, gamma_ri = gamma
    return (
        gamma_rr * white_rr + gamma_ri * white_ri,
        gamma_rr * white_ri + gamma_ri * white_ii,
        gamma_ri * white_rr + gamma_ii * white_ri,
        gamma_ri * white_ri + gamma_ii * white_ii,
    )


class ComplexAffine(nn.Module):
    """The learned part of a whitening norm: a symmetric 2x2 matrix Gamma and an offset for each channel.

    Gamma starts as the identity and the offset as 0.

    Args:
        num_channels: Complex channels C.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        identity = torch.tensor([1.0, 1.0, 0.0])  # real-real, imaginary-imaginary, real-imaginary
        self.weight = nn.Parameter(identity.unsqueeze(1).repeat(1, num_channels))
        self.bias = nn.Parameter(torch.zeros(2, num_channels))

    def apply_to(
        self, real: Tensor, imag: Tensor, whitener: Triple, channel_shape: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Gamma V^(-1/2) (real, imag) + offset.

        Args:
            real: Centred real parts.
            imag: Centred imaginary parts.
            whitener: V^(-1/2), each entry broadcasts to the parts.
            channel_shape: Shape in which a value per channel broadcasts to the parts.
        """
        white_rr, white_ii, white_ri = (entry.to(real.dtype) for entry in whitener)
        gamma_rr, gamma_ii, gamma_ri = self.weight.view(3, *channel_shape).unbind(0)
        gamma = (gamma_rr, gamma_ii, gamma_ri)
        real_real, real_imag, imag_real, imag_imag = mixing(gamma, (white_rr, white_ii, white_ri))
        bias_real, bias_imag = self.bias.view(2, *channel_shape).unbind(0)
        mixed_real = real_real * real + real_imag * imag + bias_real
        return mixed_real, imag_real * real + imag_imag * imag + bias_imag

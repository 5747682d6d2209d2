"""Group normalisation of complex channels by whitening."""

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import join, split
from pipeline.dsp.precision import at_least_float32


class ComplexGroupNorm(nn.Module):
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
        super().__init__()
        assert num_channels % num_groups == 0, f"{num_channels} channels in {num_groups} groups"
        self.num_groups, self.eps = num_groups, eps
        identity = torch.tensor([1.0, 1.0, 0.0])  # real-real, imaginary-imaginary, real-imaginary
        self.weight = nn.Parameter(identity.unsqueeze(1).repeat(1, num_channels))
        self.bias = nn.Parameter(torch.zeros(2, num_channels))

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape; the statistics are never in half precision."""
        stacked = at_least_float32(stacked)
        parts = stacked.unflatten(1, (2, self.num_groups, -1)).flatten(4)  # (B, 2, G, C/G, everything later)
        centred = parts - parts.mean(dim=(3, 4), keepdim=True)
        real, imag = (part.squeeze(1) for part in split(centred))
        whitener = self._inverse_root(real, imag)
        real_real, real_imag, imag_real, imag_imag = self._mixing(whitener)
        bias_real, bias_imag = self.bias.view(2, self.num_groups, -1, 1).unbind(0)
        mixed_real = real_real * real + real_imag * imag + bias_real
        mixed_imag = imag_real * real + imag_imag * imag + bias_imag
        return join(mixed_real.flatten(1), mixed_imag.flatten(1)).view_as(stacked)

    def _inverse_root(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """V^(-1/2) as (real-real, imaginary-imaginary, real-imaginary), each (B, G, 1, 1).

        V^(-1/2) = [[Vii + s, -Vri], [-Vri, Vrr + s]] / (s t) with s = sqrt(det V), t = sqrt(trace V + 2 s).
        """
        var_real = _mean_product(real, real) + self.eps
        var_imag = _mean_product(imag, imag) + self.eps
        covariance = _mean_product(real, imag)
        # Rounding can push the determinant of fully correlated parts below its smallest true value, eps^2.
        root = (var_real * var_imag - covariance * covariance).clamp_min(self.eps**2).sqrt()
        scale = 1 / (root * (var_real + var_imag + 2 * root).sqrt())
        whitener = ((var_imag + root) * scale, (var_real + root) * scale, -covariance * scale)
        real_real, imag_imag, real_imag = (entry.to(real.dtype) for entry in whitener)
        return real_real, imag_imag, real_imag

    def _mixing(self, whitener: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gamma V^(-1/2) row by row, each (B, G, C/G, 1); the product is not symmetric in general."""
        white_rr, white_ii, white_ri = whitener
        gamma_rr, gamma_ii, gamma_ri = self.weight.view(3, self.num_groups, -1, 1).unbind(0)
        return (
            gamma_rr * white_rr + gamma_ri * white_ri,
            gamma_rr * white_ri + gamma_ri * white_ii,
            gamma_ri * white_rr + gamma_ii * white_ri,
            gamma_ri * white_ri + gamma_ii * white_ii,
        )


def _mean_product(first: Tensor, second: Tensor) -> Tensor:
    """Mean over a group, summed in float64: the determinant of correlated parts is a small difference."""
    num_elements = first.shape[2] * first.shape[3]
    return (first * second).sum(dim=(2, 3), keepdim=True, dtype=torch.float64) / num_elements


def build_group_norm(num_channels: int, complex_valued: bool) -> nn.Module:
    """Group norm with a single group: one mean and one scale (or whitening) per example."""
    return ComplexGroupNorm(1, num_channels) if complex_valued else nn.GroupNorm(1, num_channels)

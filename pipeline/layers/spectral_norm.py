"""Spectral normalisation of real and complex convolution weights."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipeline.layers.over_ranks import is_recomputation

_FIRST_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, W / sigma with sigma = u^H W v.

    W is the matrix (outputs, everything else); of a complex weight it is the complex matrix, whose norm is that
    of the block matrix [[Wr, -Wi], [Wi, Wr]]. Each training pass does one power iteration from where the last
    one ended; it starts from a vector that depends on the sizes alone.

    Args:
        weight: (O, I, ...), or (2, O, I, ...) of a complex layer.
        complex_valued: Which of them.
        transposed: Whether inputs and outputs are swapped.

    Source: Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018, algorithm 1.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor, *, complex_valued: bool, transposed: bool) -> None:
        super().__init__()
        self.complex_valued, self.transposed = complex_valued, transposed
        with torch.no_grad():
            matrix = self._matrix(weight)
            generator = torch.Generator().manual_seed(matrix.shape[1])
            left = torch.randn(matrix.shape[:2], generator=generator).to(matrix)
            right = torch.zeros_like(matrix[:, 0])
            for _ in range(_FIRST_ITERATIONS):
                left, right = _iterate(matrix, left)
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with largest singular value 1, in float32 at least."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = self._matrix(weight)
            if self.training and not is_recomputation():
                with torch.no_grad():
                    left, right = _iterate(matrix, self.left)
                    self.left.copy_(left)
                    self.right.copy_(right)
            # Copies: the next pass moves the vectors on, and this one's gradient needs them as they are.
            left, right = self.left.clone(), self.right.clone()
            return weight / (left * _apply(matrix, right)).sum()

    def _matrix(self, weight: Tensor) -> Tensor:
        """(parts, O, K)."""
        weight = weight if self.complex_valued else weight.unsqueeze(0)
        return (weight.transpose(1, 2) if self.transposed else weight).flatten(2)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """W v: (parts, O, K) and (parts, K) to (parts, O)."""
    if len(matrix) == 1:
        return (matrix[0] @ vector[0]).unsqueeze(0)
    (real, imag), (vector_real, vector_imag) = matrix.unbind(0), vector.unbind(0)
    return torch.stack((real @ vector_real - imag @ vector_imag, imag @ vector_real + real @ vector_imag))


def _iterate(matrix: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """One power iteration: v = W^H u and u = W v, both of length 1."""
    adjoint = matrix.transpose(1, 2)
    if len(matrix) == 2:
        adjoint = torch.stack((adjoint[0], -adjoint[1]))
    right = nn.functional.normalize(_apply(adjoint, left).flatten(), dim=0).view_as(matrix[:, 0])
    left = nn.functional.normalize(_apply(matrix, right).flatten(), dim=0).view_as(left)
    return left, right


def add_spectral_norm(layer: nn.Module, *, complex_valued: bool, transposed: bool) -> None:
    """Divides `layer.weight` by its largest singular value from now on."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    norm = SpectralNorm(weight, complex_valued=complex_valued, transposed=transposed)
    parametrize.register_parametrization(layer, "weight", norm)

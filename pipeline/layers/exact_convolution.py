"""Convolutions with all bits of float32 or float64, whatever the GPU's library makes of them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def convolve_by_products(features: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """A convolution (B, C, F, T) to (B, O, F', T') as matrix products of all taps at once.

    For float32 without TF32 and 3x3 taps of many channels cuDNN takes Winograd's algorithm, whose gradients of
    weights are ten times as far off on spectrograms, where few bins hold nearly all energy. For float64 it does not use
    the units that products use.

    Args:
        features: With what lies beyond the edges.
        weight: (O, C, taps, taps).
        stride: Bins, frames.
    """
    output: Tensor = _convolve(features, weight, list(stride))
    return output


# One operator for compilers, too, which would take minutes over its parts.
@torch.library.custom_op("euler::convolve_by_products", mutates_args=())
def _convolve(features: Tensor, weight: Tensor, stride: list[int]) -> Tensor:
    products = weight.flatten(1) @ functional.unfold(features, weight.shape[2:], stride=tuple(stride))
    return products.unflatten(2, _reached(features, weight, stride))


@_convolve.register_fake
def _(features: Tensor, weight: Tensor, stride: list[int]) -> Tensor:
    return features.new_empty(features.shape[0], weight.shape[0], *_reached(features, weight, stride))


def _reached(features: Tensor, weight: Tensor, stride: list[int]) -> list[int]:
    lengths = zip(features.shape[2:], weight.shape[2:], stride, strict=True)
    return [(length - taps) // step + 1 for length, taps, step in lengths]


@torch.library.custom_op("euler::convolve_by_products_backward", mutates_args=())
def _convolve_backward(
    upstream: Tensor, features: Tensor, weight: Tensor, stride: list[int]
) -> tuple[Tensor, Tensor]:
    taps, rows = weight.shape[2:], upstream.flatten(2)
    columns = functional.unfold(features, taps, stride=tuple(stride))
    of_weight = (rows @ columns.mT).sum(0).view(weight.shape)
    of_features = functional.fold(weight.flatten(1).mT @ rows, features.shape[2:], taps, stride=tuple(stride))
    return of_features, of_weight


@_convolve_backward.register_fake
def _(upstream: Tensor, features: Tensor, weight: Tensor, stride: list[int]) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features, memory_format=torch.contiguous_format), torch.empty_like(
        weight, memory_format=torch.contiguous_format
    )


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, list[int]], output: Tensor) -> None:
    features, weight, ctx.stride = inputs
    ctx.save_for_backward(features, weight)


def _backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
    return (*_convolve_backward(upstream.contiguous(), *ctx.saved_tensors, ctx.stride), None)


_convolve.register_autograd(_backward, setup_context=_keep)

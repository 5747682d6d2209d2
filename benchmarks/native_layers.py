"""Layers of the native reference: the library's complex tensors and convolutions, as one writes them first."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import register_parametrization


class FilterNorm(nn.Module):
    """Weight norm of complex filters: a real length per output filter, over both parts."""

    def __init__(self, output_axis: int) -> None:
        super().__init__()
        self.output_axis = output_axis

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        """Maps real lengths and complex directions to the complex weight."""
        return direction * (length / self._norm(direction))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Takes a weight apart."""
        return self._norm(weight), weight

    def _norm(self, weight: Tensor) -> Tensor:
        axes = [axis for axis in range(weight.dim()) if axis != self.output_axis]
        return torch.linalg.vector_norm(weight, dim=axes, keepdim=True)


class ByParts(nn.Module):
    """A real activation of the real and of the imaginary part."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        """Maps complex features to the same shape."""
        return torch.complex(self.activation(features.real), self.activation(features.imag))


class Conv(nn.Module):
    """A convolution over one or two axes, complex where its dtype is, with "same" padding less the stride."""

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        style: "Style",
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.dilation, self.pad_mode = stride, dilation, style.pad_mode
        order = channels if transposed else channels[::-1]
        self.weight = nn.Parameter(torch.randn(*order, *kernel, dtype=style.dtype))
        self.bias = nn.Parameter(torch.zeros(channels[1], dtype=style.dtype))
        if style.norm == "weight_norm" and style.dtype.is_complex:
            register_parametrization(self, "weight", FilterNorm(int(transposed)))
        elif style.norm == "weight_norm":
            weight_norm(self, "weight", dim=int(transposed))
        totals = [(k - 1) * d + 1 - s for k, d, s in zip(kernel, dilation, stride, strict=True)]
        self.padding = [side for total in reversed(totals) for side in (total - total // 2, total // 2)]

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, ...) to (B, channels out, ...)."""
        if any(self.padding):
            mode = "reflect" if self.pad_mode == "reflect" else "constant"
            features = functional.pad(features, self.padding, mode=mode)
        convolve = functional.conv1d if len(self.stride) == 1 else functional.conv2d
        return convolve(features, self.weight, self.bias, self.stride, 0, self.dilation)


class UpConv(Conv):
    """Upsampling by the stride with a kernel of twice the stride, and some extra bins at the end."""

    def __init__(
        self, channels: tuple[int, int], stride: tuple[int, int], extra_bins: int, style: "Style"
    ) -> None:
        super().__init__(channels, (2 * stride[0], 2 * stride[1]), stride, (1, 1), style, transposed=True)
        self.extra, self.cut, self.output_padding = (extra_bins, 0), [0, 0], [0, 0]
        for axis, (step, extra) in enumerate(zip(stride, self.extra, strict=True)):
            if step > 1:  # the library cuts both sides; at stride 1 only one is to be cut
                self.cut[axis] = min(step - step // 2, step - extra)
                self.output_padding[axis] = extra + 2 * self.cut[axis] - step

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, F, T) to (B, channels out, F * stride + extra bins, T * stride)."""
        output = functional.conv_transpose2d(
            features, self.weight, self.bias, self.stride, self.cut, self.output_padding
        )
        first = [int(step == 1) for step in self.stride]
        return output[..., first[0] :, first[1] :] if any(first) else output


@dataclass(frozen=True)
class Style:
    """What all layers of a network share."""

    dtype: torch.dtype
    norm: str
    pad_mode: str
    activation: str

    def activate(self) -> nn.Module:
        """The activation."""
        activation = nn.ReLU() if self.activation == "CReLU" else getattr(nn, self.activation)()
        return ByParts(activation) if self.dtype.is_complex else activation

    def conv(
        self, channels: tuple[int, int], kernel: int, stride: tuple[int, int] | None = None, dilation: int = 1
    ) -> Conv:
        """A convolution with a square kernel, or one of twice the stride."""
        if stride is not None:
            return Conv(channels, (2 * stride[0], 2 * stride[1]), stride, (1, 1), self)
        return Conv(channels, (kernel, kernel), (1, 1), (1, dilation), self)


class Unit(nn.Module):
    """A residual unit."""

    def __init__(
        self, channels: int, hidden: int, kernel: int, dilation: int, skip: bool, style: Style
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            style.activate(),
            style.conv((channels, hidden), kernel, dilation=dilation),
            style.activate(),
            style.conv((hidden, channels), 1),
        )
        self.shortcut = nn.Identity() if skip else style.conv((channels, channels), 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features to the same shape."""
        return self.shortcut(features) + self.body(features)

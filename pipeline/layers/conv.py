"""Real and complex convolutions with "same" padding.

A complex weight W = Wr + i Wi is one real parameter (2, O, I, ...), its convolution one real convolution of
stacked channels with the block weight [[Wr, -Wi], [Wi, Wr]]. Three-multiplication shortcuts lose small
imaginary parts to cancellation; native complex convolution is several times slower.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from pipeline.dsp.padding import reflect_pad, zero_pad
from pipeline.layers.norm import build_group_norm

Norm = Literal["none", "weight_norm", "group_norm"]
PadMode = Literal["reflect", "zeros"]


@dataclass(frozen=True)
class ConvStyle:
    """What all convolutions of a network share.

    Args:
        complex_valued: Whether tensors hold stacked complex channels; channel counts are then complex ones.
        norm: "weight_norm" learns length and direction of each output filter (both parts together) apart;
            "group_norm" normalises the output over channels and axes of each example.
        pad_mode: What convolutions see beyond the edges.
    """

    complex_valued: bool
    norm: Norm = "none"
    pad_mode: PadMode = "reflect"


class Convolution(nn.Module):
    """Weight, bias and normalisation of every convolution; subclasses apply them.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Taps per axis.
        stride: Step per axis.
        dilation: Distance between taps per axis.
        transposed: Whether the weight is laid out (I, O, ...) instead of (O, I, ...).
        style: What the network's convolutions share.
        bias: Whether to add a learned bias.
        gain: Standard deviation of the initial output for white input of standard deviation 1.
    """

    weight: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        *,
        transposed: bool,
        style: ConvStyle,
        bias: bool,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        self.transposed, self.style = transposed, style
        parts = (2,) if style.complex_valued else ()
        channels = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = nn.Parameter(torch.empty(*parts, *channels, *kernel_size))
        self.bias = nn.Parameter(torch.empty(*parts, out_channels)) if bias else None
        self._reset_parameters(gain)
        if style.norm == "weight_norm":
            weight_norm(self, "weight", dim=len(parts) + int(transposed))
        grouped = style.norm == "group_norm"
        self.norm = build_group_norm(out_channels, style.complex_valued) if grouped else None

    def _reset_parameters(self, gain: float) -> None:
        """Uniform weights that keep the variance of white input (times gain^2), and no bias.

        Deep networks stay on a plateau for thousands of steps where each convolution takes variance away.
        Source: LeCun et al., Efficient BackProp, 1998, section 4.6; the fan-in counts real products per real output.
        """
        fan_in = self.in_channels * math.prod(self.kernel_size) * (2 if self.style.complex_valued else 1)
        if self.transposed:
            fan_in //= math.prod(self.stride)  # an output element meets only every stride-th tap
        bound = gain * math.sqrt(3 / fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def real_weight(self) -> Tensor:
        """The weight of the equivalent real convolution, (O, I, ...) or (I, O, ...) in real channels."""
        if not self.style.complex_valued:
            return self.weight
        real, imag = self.weight.unbind(0)
        if self.transposed:
            return torch.cat((torch.cat((real, imag), 1), torch.cat((-imag, real), 1)), 0)
        return torch.cat((torch.cat((real, -imag), 1), torch.cat((imag, real), 1)), 0)

    def finish(self, output: Tensor) -> Tensor:
        """Adds the bias and applies the group norm.

        The library's own bias costs as much, but on a CPU its gradient is summed one element after the other:
        relative error 6e-6 on a spectrogram where this sum has 2e-7.
        """
        if self.bias is not None:
            output = output.add_(self.bias.view(-1, *(1,) * len(self.kernel_size)))
        return output if self.norm is None else self.norm(output)

    def extra_repr(self) -> str:
        """Sizes for the printed module tree."""
        kind = "complex" if self.style.complex_valued else "real"
        sizes = f"kernel={self.kernel_size}, stride={self.stride}, dilation={self.dilation}"
        return f"{kind}, {self.in_channels} -> {self.out_channels}, {sizes}"


class _PaddedConvolution(Convolution):
    """A convolution that turns n elements into floor(n / stride), by padding kernel - stride in all."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
        *,
        style: ConvStyle,
        bias: bool,
        gain: float = 1.0,
    ) -> None:
        sizes = (in_channels, out_channels, kernel_size, stride, dilation)
        super().__init__(*sizes, transposed=False, style=style, bias=bias, gain=gain)
        totals = [(k - 1) * d + 1 - s for k, d, s in zip(kernel_size, dilation, stride, strict=True)]
        assert min(totals) >= 0, f"kernel {kernel_size} is shorter than stride {stride}"
        amounts = [(total - total // 2, total // 2) for total in totals]
        # Equal zeros on both sides are left to the library's convolution, which needs no copy for them.
        by_library = style.pad_mode == "zeros" and all(before == after for before, after in amounts)
        self.library_padding = tuple(before if by_library else 0 for before, _ in amounts)
        self.own_padding = [(0, 0)] * len(amounts) if by_library else amounts

    def pad(self, features: Tensor) -> Tensor:
        """Pads the axes after the channels."""
        pad_axis = reflect_pad if self.style.pad_mode == "reflect" else zero_pad
        for dim, amount in enumerate(self.own_padding, start=2):
            features = pad_axis(features, amount, dim)
        return features


class Conv1d(_PaddedConvolution):
    """Convolution over (B, channels, L) that keeps L.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Taps.
        style: What the network's convolutions share.
        bias: Whether to add a learned bias.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, style: ConvStyle, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, (kernel_size,), (1,), (1,), style=style, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, L) to (B, channels out, L)."""
        padded = self.pad(features)
        return self.finish(functional.conv1d(padded, self.real_weight(), padding=self.library_padding))


class Conv2d(_PaddedConvolution):
    """Convolution over (B, channels, F, T).

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Taps (frequency, time); the dilated kernel is at least as long as the stride.
        stride: Step (frequency, time).
        dilation: Distance between taps (frequency, time).
        style: What the network's convolutions share.
        bias: Whether to add a learned bias.
        gain: Standard deviation of the initial output for white input of standard deviation 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        *,
        style: ConvStyle,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        sizes = (in_channels, out_channels, kernel_size, stride, dilation)
        super().__init__(*sizes, style=style, bias=bias, gain=gain)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, F, T) to (B, channels out, F // stride, T // stride)."""
        padded, weight = self.pad(features), self.real_weight()
        output = functional.conv2d(padded, weight, None, self.stride, self.library_padding, self.dilation)
        return self.finish(output)


class ConvTranspose2d(Convolution):
    """Upsampling over (B, channels, F, T) by exactly the stride, with a kernel of twice the stride.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        stride: Factor (frequency, time).
        extra_bins: Frequency bins beyond F * stride, below the stride: the remainder that a strided
            convolution dropped on the way down.
        style: What the network's convolutions share.
        bias: Whether to add a learned bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: tuple[int, int],
        *,
        extra_bins: int = 0,
        style: ConvStyle,
        bias: bool = True,
    ) -> None:
        assert 0 <= extra_bins < stride[0], f"{extra_bins} extra bins at stride {stride}"
        kernel_size = (2 * stride[0], 2 * stride[1])
        super().__init__(
            in_channels, out_channels, kernel_size, stride, (1, 1), transposed=True, style=style, bias=bias
        )
        # What is cut off the left mirrors the padding of the strided convolution. The library cuts by itself,
        # without a copy, except where the stride is 1: it cannot cut one side only.
        self.library_padding, self.output_padding = [0, 0], [0, 0]
        for axis, (step, extra) in enumerate(zip(stride, (extra_bins, 0), strict=True)):
            if step > 1:
                first = min(step - step // 2, step - extra)
                self.library_padding[axis] = first
                self.output_padding[axis] = extra + 2 * first - step

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, F, T) to (B, channels out, F * stride + extra_bins, T * stride)."""
        output = functional.conv_transpose2d(
            features, self.real_weight(), None, self.stride, self.library_padding, self.output_padding
        )
        for dim, step in enumerate(self.stride, start=2):
            if step == 1:
                output = output.narrow(dim, 1, features.shape[dim])
        return self.finish(output)

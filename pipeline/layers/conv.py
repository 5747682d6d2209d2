"""Real and complex convolutions with "same" padding, or causal in time."""

import functools
from operator import add

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.dsp.padding import reflect_pad, zero_pad
from pipeline.layers.convolution import Convolution, ConvStyle
from pipeline.layers.folding import AxisTaps, Grid, Size

_LONGEST_SUM = 1024  # products of float32 that are added up one after the other


def sum_in_blocks(rows: Tensor, matrix: Tensor) -> Tensor:
    """The matrix product (B, L, I) x (I, O), whose sums over many I are cut into blocks where they are of float32.

    Blocks are of 1024, where I is a multiple of that. The error of a running sum grows with the root of its length;
    that of a sum of blocks, with that of a block.
    Source: Higham, The Accuracy of Floating Point Summation, SIAM J. Sci. Comput. 14, 1993.
    """
    terms = matrix.shape[0]
    is_float32 = rows.dtype == torch.float32 and not torch.is_autocast_enabled(rows.device.type)
    if not is_float32 or terms <= _LONGEST_SUM or terms % _LONGEST_SUM:
        return rows @ matrix
    blocks = terms // _LONGEST_SUM
    apart = rows.unflatten(2, (blocks, -1)).permute(2, 0, 1, 3).flatten(1, 2)  # (blocks, B L, I / blocks)
    return (apart @ matrix.unflatten(0, (blocks, -1))).sum(0).unflatten(0, rows.shape[:2])


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
        groups: int = 1,
    ) -> None:
        sizes = (in_channels, out_channels, kernel_size, stride, dilation)
        super().__init__(*sizes, transposed=False, style=style, bias=bias, gain=gain, groups=groups)
        totals = [(k - 1) * d + 1 - s for k, d, s in zip(kernel_size, dilation, stride, strict=True)]
        assert min(totals) >= 0, f"kernel {kernel_size} is shorter than stride {stride}"
        amounts = [(total - total // 2, total // 2) for total in totals]
        if style.causal:
            amounts[-1] = (totals[-1], 0)
        self.padding = amounts
        # Equal zeros on both sides are left to the library's convolution, which needs no copy for them.
        by_library = style.pad_mode == "zeros" and all(before == after for before, after in amounts)
        self.library_padding = tuple(before if by_library else 0 for before, _ in amounts)
        self.own_padding = [(0, 0)] * len(amounts) if by_library else amounts

    def pad(self, features: Tensor) -> Tensor:
        """Pads the axes after the channels."""
        for dim, amount in enumerate(self.own_padding, start=2):
            reflects = self.reflects(in_time=dim == features.dim() - 1)
            features = (reflect_pad if reflects else zero_pad)(features, amount, dim)
        return features

    def padded(self, features: Tensor) -> Tensor:
        """Pads the axes after the channels as far as the layer sees, what the library would add included."""
        for dim, (own, by_library) in enumerate(
            zip(self.padding, self.library_padding, strict=True), start=2
        ):
            if by_library:
                features = zero_pad(features, own, dim)
        return self.pad(features)

    def reflects(self, in_time: bool) -> bool:
        """Whether an axis is mirrored at its ends: a causal layer sees zeros before the first frame."""
        return self.style.pad_mode == "reflect" and not (in_time and self.style.causal)


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
        if features.is_cuda and self.kernel_size != (1,):
            return self.finish(self.by_products(features))
        padded = self.pad(features)
        return self.finish(functional.conv1d(padded, self.real_weight(), padding=self.library_padding))

    def by_products(self, features: Tensor) -> Tensor:
        """The convolution as matrix products, without bias and norm: of the many input channels, or of the few taps.

        Between packed bins and latents there are thousands of channels and some ten frames. The GPU's library is
        slow on that, and adds up so many products one after the other that float32 loses a digit (3e-6 where this
        has 6e-7).
        """
        weight = self.real_weight()  # (O, I, K)
        (num_taps,), length = self.kernel_size, features.shape[-1]
        rows = self.padded(features).mT  # (B, L + K - 1, I)
        if weight.shape[1] > weight.shape[0]:
            products = sum_in_blocks(rows, weight.permute(1, 2, 0).flatten(1)).unflatten(2, (num_taps, -1))
            exact = torch.promote_types(products.dtype, torch.float32)
            shifted = (products[:, tap : tap + length, tap].to(exact) for tap in range(num_taps))
            return functools.reduce(add, shifted).to(products.dtype).mT
        taps = torch.cat([rows.narrow(1, tap, length) for tap in range(num_taps)], 2)
        return sum_in_blocks(taps, weight.permute(2, 1, 0).flatten(0, 1)).mT


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
        groups: Groups of channels that do not see each other.
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
        groups: int = 1,
    ) -> None:
        sizes = (in_channels, out_channels, kernel_size, stride, dilation)
        super().__init__(*sizes, style=style, bias=bias, gain=gain, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, F, T) to (B, channels out, F // stride, T // stride)."""
        padded, weight = self.by_groups(self.pad(features)), self.real_weight()
        output = functional.conv2d(
            padded, weight, None, self.stride, self.library_padding, self.dilation, self.groups
        )
        return self.finish(self.by_parts(output))

    def taps(self, grid: Grid, size: Size) -> tuple[AxisTaps, AxisTaps]:
        """How it maps a folded map to one in blocks of a size, along bins and along frames."""
        found = []
        for axis, source in enumerate((grid.bins, grid.frames)):
            padding = self.padding[axis]
            found.append(
                AxisTaps.strided(
                    source,
                    size[axis],
                    kernel=self.kernel_size[axis],
                    stride=self.stride[axis],
                    dilation=self.dilation[axis],
                    before=padding[0],
                    mirrored=padding if self.reflects(in_time=axis == 1) else None,
                )
            )
        return found[0], found[1]


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
        # The library always cuts both sides, so a causal layer cuts the end by itself.
        self.extra_bins = extra_bins
        by_library = (stride[0] > 1, stride[1] > 1 and not style.causal)
        for axis, (step, extra) in enumerate(zip(stride, (extra_bins, 0), strict=True)):
            if by_library[axis]:
                first = min(step - step // 2, step - extra)
                self.library_padding[axis] = first
                self.output_padding[axis] = extra + 2 * first - step

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, channels in, F, T) to (B, channels out, F * stride + extra_bins, T * stride)."""
        output = functional.conv_transpose2d(
            features, self.real_weight(), None, self.stride, self.library_padding, self.output_padding
        )
        if self.stride[0] == 1:
            output = output.narrow(2, 1, features.shape[2])
        if self.style.causal:
            output = output.narrow(3, 0, features.shape[3] * self.stride[1])
        elif self.stride[1] == 1:
            output = output.narrow(3, 1, features.shape[3])
        return self.finish(output)

    def taps(self, grid: Grid) -> tuple[AxisTaps, AxisTaps]:
        """How it maps a map that is not folded to one in blocks of its stride, along bins and along frames."""
        bins, frames = self.stride
        cut_bins = self.library_padding[0] if bins > 1 else 1
        cut_frames = 0 if self.style.causal else self.library_padding[1] if frames > 1 else 1
        num_bins = grid.bins.length * bins + self.extra_bins
        return (
            AxisTaps.transposed(grid.bins, stride=bins, cut=cut_bins, length=num_bins),
            AxisTaps.transposed(
                grid.frames, stride=frames, cut=cut_frames, length=grid.frames.length * frames
            ),
        )

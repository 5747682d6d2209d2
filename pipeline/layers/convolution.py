"""What real and complex convolutions have in common: weight, bias, normalisation.

A complex weight W = Wr + i Wi is one real parameter (2, O, I, ...), its convolution one real convolution of
stacked channels with the block weight [[Wr, -Wi], [Wi, Wr]]. Three-multiplication shortcuts lose small
imaginary parts to cancellation; native complex convolution is several times slower.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pipeline.layers import FEATURE_NORMS
from pipeline.layers.norm import build_feature_norm
from pipeline.layers.spectral_norm import add_spectral_norm

Norm = Literal["none", "weight_norm", "spectral_norm", "group_norm", "layer_norm", "batch_norm"]
PadMode = Literal["reflect", "zeros"]


@dataclass(frozen=True)
class ConvStyle:
    """What all convolutions of a network share.

    Args:
        complex_valued: Whether tensors hold stacked complex channels; channel counts are then complex ones.
        norm: "weight_norm" learns length and direction of each output filter (both parts together) apart;
            "spectral_norm" divides the weight by its largest singular value; "group_norm" normalises the output
            over channels and axes of each example, "layer_norm" over channels and bins of each frame,
            "batch_norm" over the batch.
        pad_mode: What convolutions see beyond the edges.
        causal: Whether no output frame sees a later frame. Padding in time is then all before the first frame,
            and zeros: a reflection would show later frames.
    """

    complex_valued: bool
    norm: Norm = "none"
    pad_mode: PadMode = "reflect"
    causal: bool = False


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
        groups: Groups of channels that do not see each other; divides both channel counts.
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
        groups: int = 1,
    ) -> None:
        super().__init__()
        assert in_channels % groups == out_channels % groups == 0 and not (transposed and groups > 1)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        self.transposed, self.style, self.groups = transposed, style, groups
        parts = (2,) if style.complex_valued else ()
        channels = (in_channels, out_channels) if transposed else (out_channels, in_channels // groups)
        self.weight = nn.Parameter(torch.empty(*parts, *channels, *kernel_size))
        # A batch norm takes every constant away; an optimiser would follow the rounding of its gradient.
        bias = bias and style.norm != "batch_norm"
        self.bias = nn.Parameter(torch.empty(*parts, out_channels)) if bias else None
        self._reset_parameters(gain)
        if style.norm == "weight_norm":
            weight_norm(self, "weight", dim=len(parts) + int(transposed))
        elif style.norm == "spectral_norm":
            add_spectral_norm(self, complex_valued=style.complex_valued, transposed=transposed)
        self.norm: nn.Module | None = None
        if style.norm in FEATURE_NORMS:
            self.norm = build_feature_norm(
                style.norm, out_channels, complex_valued=style.complex_valued, causal=style.causal
            )

    def _reset_parameters(self, gain: float) -> None:
        """Uniform weights that keep the variance of white input (times gain^2), and no bias.

        Deep networks stay on a plateau for thousands of steps where each convolution takes variance away.
        Source: LeCun et al., Efficient BackProp, 1998, section 4.6; the fan-in counts real products per real output.
        """
        fan_in = (
            self.in_channels
            // self.groups
            * math.prod(self.kernel_size)
            * (2 if self.style.complex_valued else 1)
        )
        if self.transposed:
            fan_in //= math.prod(self.stride)  # an output element meets only every stride-th tap
        bound = gain * math.sqrt(3 / fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def real_out_channels(self) -> int:
        """Output channels of the equivalent real convolution."""
        return self.out_channels * (2 if self.style.complex_valued else 1)

    def real_weight(self) -> Tensor:
        """The weight of the equivalent real convolution, (O, I, ...) or (I, O, ...) in real channels.

        With groups, these are in the order of `by_groups`.
        """
        if not self.style.complex_valued:
            return self.weight
        real, imag = self.weight.unbind(0)
        if self.transposed:
            return torch.cat((torch.cat((real, imag), 1), torch.cat((-imag, real), 1)), 0)
        if self.groups > 1:
            real, imag = (part.unflatten(0, (self.groups, -1)) for part in (real, imag))
            blocks = torch.cat((torch.cat((real, -imag), 2), torch.cat((imag, real), 2)), 1)
            return blocks.flatten(0, 1)
        return torch.cat((torch.cat((real, -imag), 1), torch.cat((imag, real), 1)), 0)

    def by_groups(self, stacked: Tensor) -> Tensor:
        """Channels [all re | all im] to [re | im] of each group, as the library's groups want them."""
        if not self.style.complex_valued or self.groups == 1:
            return stacked
        return stacked.unflatten(1, (2, self.groups, -1)).transpose(1, 2).flatten(1, 3)

    def by_parts(self, grouped: Tensor) -> Tensor:
        """The inverse of `by_groups`."""
        if not self.style.complex_valued or self.groups == 1:
            return grouped
        return grouped.unflatten(1, (self.groups, 2, -1)).transpose(1, 2).flatten(1, 3)

    def finish(self, output: Tensor) -> Tensor:
        """Adds the bias and applies the norm of the output.

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
        sizes += f", groups={self.groups}" if self.groups > 1 else ""
        return f"{kind}, {self.in_channels} -> {self.out_channels}, {sizes}"

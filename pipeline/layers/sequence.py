"""Sequence models on latents (B, D, L): what convolutions with a short reach cannot see."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import join, split
from pipeline.layers.attention import TransformerBlock
from pipeline.layers.convolution import ConvStyle

SequenceModel = Literal["none", "lstm", "transformer"]
_HIDDEN_FACTOR = 4


class LatentLSTM(nn.Module):
    """x + LSTM(x) over latent frames, of the past in a causal network, else of both directions, averaged.

    A complex one has two real LSTMs, A and B: A(Re x) - B(Im x) + i (A(Im x) + B(Re x)).

    Args:
        num_channels: Channels, complex ones in a complex network.
        num_layers: Layers.
        style: Real or complex, causal or not.

    Source: Hochreiter, Schmidhuber, Long Short-Term Memory, 1997; the shortcut as in Defossez et al., EnCodec,
        2022, section 3.1; complex as in Hu et al., DCCRN, Interspeech 2020, equation 4.
    """

    def __init__(self, num_channels: int, num_layers: int, style: ConvStyle) -> None:
        super().__init__()
        self.complex_valued, self.causal = style.complex_valued, style.causal
        self.networks = nn.ModuleList(
            nn.LSTM(num_channels, num_channels, num_layers, batch_first=True, bidirectional=not style.causal)
            for _ in range(2 if style.complex_valued else 1)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, channels, L) to the same shape."""
        if not self.complex_valued:
            return latents + self._run(self.networks[0], latents)
        both = torch.cat(split(latents))  # one pass of each network for both parts
        (real_a, imag_a), (real_b, imag_b) = (self._run(net, both).chunk(2) for net in self.networks)
        return latents + join(real_a - imag_b, imag_a + real_b)

    def _run(self, network: nn.Module, latents: Tensor) -> Tensor:
        rows = latents.mT.contiguous()
        output = (network(rows) if rows.is_cuda else _run_unrounded(network, rows))[0].mT
        return output if self.causal else 0.5 * (output.chunk(2, 1)[0] + output.chunk(2, 1)[1])


def _run_unrounded(network: nn.Module, rows: Tensor) -> tuple[Tensor, Any]:
    """Run an LSTM in the precision of its weights, whatever autocast says: few CPUs have one in bf16."""
    with torch.autocast(rows.device.type, enabled=False):
        result: tuple[Tensor, Any] = network(rows.to(next(network.parameters()).dtype))
        return result


class LatentTransformer(nn.Module):
    """Transformer blocks over latent frames, which see earlier frames only in a causal network.

    Args:
        num_channels: Channels, complex ones in a complex network.
        num_layers: Blocks.
        num_heads: Heads of each block's attention.
        activation: Name, see `build_activation`.
        style: Real or complex, causal or not.

    Source: see `TransformerBlock`.
    """

    def __init__(
        self, num_channels: int, num_layers: int, num_heads: int, activation: str, style: ConvStyle
    ) -> None:
        super().__init__()
        hidden = _HIDDEN_FACTOR * num_channels
        self.blocks = nn.ModuleList(
            TransformerBlock(num_channels, num_heads, hidden, activation, style) for _ in range(num_layers)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, channels, L) to the same shape."""
        positions = torch.arange(latents.shape[-1], device=latents.device)
        for block in self.blocks:
            latents = block(latents, positions)
        return latents


def build_sequence_model(
    name: SequenceModel, num_channels: int, num_layers: int, num_heads: int, activation: str, style: ConvStyle
) -> nn.Module:
    """Builds what stands between the latents and the convolutions; "none" passes them on."""
    if name == "lstm":
        return LatentLSTM(num_channels, num_layers, style)
    if name == "transformer":
        return LatentTransformer(num_channels, num_layers, num_heads, activation, style)
    return nn.Identity()

"""A network on a long signal piece by piece, so that memory grows with the piece, not with the signal.

A piece is taken with margins as wide as the network can see, of which nothing is kept, and begins on a whole latent
frame, so that strides fall as in the whole; padding happens at the true ends only. Each kept value is then the sum of
the same products as in the whole: equal in exact arithmetic, equal to rounding in floats. In training the inside of a
piece is computed again in the backward pass, so that the activations of one piece are in memory at a time.

Where a layer looks at all frames (statistics over time, sequence models), a piece is all that it sees: the result is
another one, which training and validation share. A norm with a stored state (statistics over the batch, power
iterations) takes or moves it piece by piece: training is another one, validation is not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.models.recompute import recomputed


class Seeing(Protocol):
    """What a network tells of how far it looks."""

    @property
    def receptive_field_frames(self) -> int:
        """Spectrogram frames that can influence one output frame."""

    has_global_statistics: bool

    def state_dict(self) -> dict[str, Any]:
        """Weights and stored state."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights."""


@dataclass(frozen=True)
class PiecePlan:
    """Lengths in latent frames.

    Attributes:
        kept: what is kept of a piece.
        before: margin before it.
        after: margin after it.
    """

    kept: int
    before: int
    after: int

    @classmethod
    def of(cls, chunk_frames: int, receptive_field_frames: int, time_stride: int) -> "PiecePlan":
        """Plan pieces of at least `chunk_frames` spectrogram frames.

        What a network sees lies at most its receptive field before a frame, where it is causal, and else at most half
        of it to each side; strides and even kernels shift this by less than a latent frame each.

        Args:
            chunk_frames: spectrogram frames kept of a piece, rounded up to whole latent frames.
            receptive_field_frames: spectrogram frames that can influence one output frame.
            time_stride: spectrogram frames per latent frame.
        """
        before = -(-receptive_field_frames // time_stride) + 1
        after = -(-receptive_field_frames // (2 * time_stride)) + 2
        return cls(-(-chunk_frames // time_stride), before, after)

    @property
    def work(self) -> float:
        """Frames computed for each that is kept, away from the ends of a long signal."""
        return (self.before + self.kept + self.after) / self.kept


def describe_pieces(
    chunk_frames: int, segment_frames: int, networks: Sequence[Seeing], time_stride: int
) -> list[str]:
    """Return lines that say what pieces change, for the start of a run.

    Args:
        chunk_frames: `model.autoencoder.chunk_frames`.
        segment_frames: spectrogram frames of a training segment.
        networks: encoder and decoder.
        time_stride: spectrogram frames per latent frame.
    """
    key = f"model.autoencoder.chunk_frames={chunk_frames}"
    plans = [PiecePlan.of(chunk_frames, network.receptive_field_frames, time_stride) for network in networks]
    kept = plans[0].kept * time_stride
    if kept >= segment_frames:
        return [f"{key} has no effect on segments of {segment_frames} frames"]
    if any(network.has_global_statistics for network in networks):
        return [
            f"{key}: a layer of this model looks at all frames, and is now given pieces of {kept} frames and their "
            "margins: results differ from those without chunk_frames and from those of pipeline.inference"
        ]
    if any(
        set(network.state_dict()) - {name for name, _ in network.named_parameters()} for network in networks
    ):
        return [
            f"{key}: a norm of this model takes statistics of what it is given, or moves a stored state on with every "
            f"pass, and is now given pieces of {kept} frames and their margins: training differs from that without "
            "chunk_frames; what is trained is then validated as a whole would be, to rounding"
        ]
    margin = max(plan.before + plan.after for plan in plans) * time_stride
    work = max(plan.work for plan in plans)
    return [
        f"{key}: encoder and decoder take pieces of {kept} frames with up to {margin} frames of margin; results are "
        f"those of the whole, to rounding, for up to {work:.1f} times the computation"
    ]


def encode_in_pieces(encoder: nn.Module, frames: Tensor, plan: PiecePlan, time_stride: int) -> Tensor:
    """Return `encoder(frames)`: (B, 2C, F, T), T a multiple of `time_stride`, to (B, D, T / time_stride)."""
    return _in_pieces(encoder, frames, plan, time_stride, 1)


def decode_in_pieces(decoder: nn.Module, latents: Tensor, plan: PiecePlan, time_stride: int) -> Tensor:
    """Return `decoder(latents)`: (B, D', L) to (B, 2C, F, L * time_stride)."""
    return _in_pieces(decoder, latents, plan, 1, time_stride)


def _in_pieces(
    network: nn.Module, features: Tensor, plan: PiecePlan, width_in: int, width_out: int
) -> Tensor:
    """Run a network whose input and output have so many frames per latent frame."""
    length = features.shape[-1] // width_in
    if length <= plan.kept:
        return network(features)
    found = []
    for start in range(0, length, plan.kept):
        end = min(start + plan.kept, length)
        first, last = max(0, start - plan.before), min(length, end + plan.after)
        piece = features[..., first * width_in : last * width_in]
        output = recomputed(network, piece) if torch.is_grad_enabled() else network(piece)
        found.append(output[..., (start - first) * width_out : (end - first) * width_out])
    return torch.cat(found, -1)

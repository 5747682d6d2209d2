"""Audio of any length through a codec in chunks, without a seam.

A chunk is analysed together with a margin on both sides, of which only the chunk itself is kept. An output sample
depends on the frames that overlap it (half a transform to each side), these on the frames within the networks'
receptive field, and these again on samples half a transform away: with a margin of receptive field plus one transform
the kept samples never see where a piece was cut. Pieces begin on whole latent hops, so that frames and strides fall as
in the whole; padding by reflection happens at the true ends only.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import ConfigError
from pipeline.inference.channels import group_channels, ungroup_channels
from pipeline.inference.codec import AudioCodec
from pipeline.inference.streams import SlidingWindow, Waveform

DEFAULT_CHUNK_SECONDS = 10.0


@dataclass(frozen=True)
class ChunkPlan:
    """How long chunks and their margins are, in samples; both are whole latent hops.

    Attributes:
        chunk_samples: what is kept of a piece.
        margin_samples: what is added on each side.
    """

    chunk_samples: int
    margin_samples: int

    @classmethod
    def of(cls, codec: AudioCodec, chunk_seconds: float) -> "ChunkPlan":
        """Plan chunks of about `chunk_seconds`, at least one latent hop.

        Raises:
            ConfigError: `chunk_seconds` is not a positive number.
        """
        if not (0 < chunk_seconds < math.inf):
            raise ConfigError(f"chunk_seconds={chunk_seconds:g} must be a positive number of seconds")
        model = codec.autoencoder
        hop = model.latent_hop_samples
        reach = model.receptive_field_frames * model.stft.hop_length + model.stft.settings.n_fft
        chunk_hops = max(1, int(chunk_seconds * codec.sample_rate_hz / hop))
        return cls(chunk_samples=chunk_hops * hop, margin_samples=-(-reach // hop) * hop)


def reconstruct_blocks(
    codec: AudioCodec, blocks: Iterable[Waveform], chunk_seconds: float = DEFAULT_CHUNK_SECONDS
) -> Iterator[Waveform]:
    """Reconstruct a stream at the model's rate; memory grows with `chunk_seconds`, not with the length.

    Args:
        codec: the model.
        blocks: (C, any number of samples) float32 each, full scale 1.0; any number of channels, see `channels`.
        chunk_seconds: length of a chunk. A model that looks at all frames cannot be cut: it takes audio of
            up to one chunk.

    Yields:
        Blocks (C, samples), together as long as the input.

    Raises:
        ConfigError: `chunk_seconds` is wrong, or too short for a model that cannot be cut.
    """
    plan, window, at = ChunkPlan.of(codec, chunk_seconds), SlidingWindow(blocks), 0
    if codec.autoencoder.has_global_statistics:
        yield _reconstruct_piece(codec, _read_whole(window, plan), chunk_seconds)
        return
    while True:
        first = max(0, at - plan.margin_samples)
        piece = window.read(first, at + plan.chunk_samples + plan.margin_samples)
        end = window.end if window.ended else at + plan.chunk_samples
        yield _reconstruct_piece(codec, piece, chunk_seconds)[:, at - first : end - first]
        if window.ended:
            return
        at = end


def _read_whole(window: SlidingWindow, plan: ChunkPlan) -> Waveform:
    whole = window.read(0, plan.chunk_samples + 1)
    if not window.ended:
        raise ConfigError(
            "chunk_seconds is shorter than the audio, but this model looks at all frames at once (group_norm, "
            "attention or an LSTM), so that chunks would differ from the whole; raise it above the audio's length "
            "(memory grows with it)"
        )
    return whole


def _reconstruct_piece(codec: AudioCodec, piece: Waveform, chunk_seconds: float) -> Waveform:
    """Run the channel groups of (C, S) one after the other, which bounds memory."""
    groups = torch.from_numpy(group_channels(piece, codec.channels))
    try:
        estimates = [codec.reconstruct(group.unsqueeze(0)).squeeze(0).cpu().numpy() for group in groups]
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"chunk_seconds={chunk_seconds:g}: one chunk does not fit into the memory of {codec.device}; lower it"
        ) from None
    return ungroup_channels(np.stack(estimates), len(piece))

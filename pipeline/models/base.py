"""The contract of encoders and decoders: any of them combine whose configurations fit."""

from torch import Tensor, nn


class SpectrogramNetwork(nn.Module):
    """What an encoder and a decoder tell about themselves.

    Attributes:
        dimension: Latent channels, complex ones in a complex network.
        complex_valued: Whether latents are stacked complex channels.
        latent_channels: Real latent channels D.
        time_stride: Spectrogram frames per latent frame.
        has_global_statistics: Whether every frame may depend on all frames, so that chunks cannot equal the
            whole: through a norm over all frames, attention or recurrence.
        folds: Whether training passes fold positions into channels, see `pipeline.layers.folding`.
    """

    dimension: int
    complex_valued: bool
    latent_channels: int
    time_stride: int
    has_global_statistics: bool
    folds: bool = False

    @property
    def cannot_fold(self) -> str | None:
        """Why it cannot fold positions into channels; None if it can."""
        return "it has no convolutions of positions"

    @property
    def receptive_field_frames(self) -> int:
        """Spectrogram frames that can influence one output frame, what sees all of them left aside."""
        raise NotImplementedError


class SpectrogramEncoder(SpectrogramNetwork):
    """Stacked spectrograms to latents."""

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, F, T), T a multiple of `time_stride`, to (B, latent_channels, T / time_stride)."""
        raise NotImplementedError


class SpectrogramDecoder(SpectrogramNetwork):
    """Latents to stacked spectrograms."""

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (B, latent_channels, L) to (B, 2C, F, L * time_stride)."""
        raise NotImplementedError

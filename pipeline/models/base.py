"""The contract of encoders and decoders: any of them combine whose configurations fit."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.layers.folded import apply_folded
from pipeline.models.form import Form


class SpectrogramNetwork(nn.Module):
    """What an encoder and a decoder tell about themselves.

    Attributes:
        dimension: Latent channels, complex ones in a complex network.
        complex_valued: Whether latents are stacked complex channels.
        latent_channels: Real latent channels D.
        time_stride: Spectrogram frames per latent frame.
        has_global_statistics: Whether every frame may depend on all frames, so that chunks cannot equal the
            whole: through a norm over all frames, attention or recurrence.
    """

    dimension: int
    complex_valued: bool
    latent_channels: int
    time_stride: int
    has_global_statistics: bool
    levels: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        self._form = Form()
        self._compiled: Callable[[Tensor], Tensor] | None = None

    @property
    def form(self) -> Form:
        """The form in which it computes."""
        return self._form

    def set_form(self, form: Form) -> None:
        """Compute in a form; weights and their names stay."""
        self._form = form
        self._compiled = None
        if form.compile:
            self._compiled = torch.compile(self._convolve, fullgraph=True, dynamic=False)

    def convolve(self, features: Tensor) -> Tensor:
        """What an encoder does before and a decoder after its sequence model, in the form that is set."""
        # Validation meets other lengths, each of which would be compiled.
        if self._compiled is not None and self.training and torch.is_grad_enabled():
            return self._compiled(features)
        return self._convolve(features)

    def _convolve(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def _apply_levels(self, features: Tensor) -> Tensor:
        features = features.contiguous(memory_format=torch.channels_last)
        return apply_folded(self.levels, features) if self._form.fold else self.levels(features)

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

"""The whole signal path: waveform, spectrogram, compression, encoder, bottleneck, decoder, and back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import stack, unstack
from pipeline.dsp.compression import Compression
from pipeline.dsp.length import pad_to_multiple, trim
from pipeline.dsp.precision import at_least_float32
from pipeline.dsp.stft import Stft
from pipeline.errors import ShapeError
from pipeline.models.base import SpectrogramDecoder, SpectrogramEncoder
from pipeline.models.bottleneck.base import Bottleneck, Noise
from pipeline.models.form import Form
from pipeline.models.latent_mask import mask_latents
from pipeline.models.pieces import PiecePlan, decode_in_pieces, encode_in_pieces
from pipeline.models.training_options import TrainingOptions

_AnalysisPass = Callable[[Tensor], tuple[Tensor, Tensor]]
_DecodingPass = Callable[[Tensor, int], Tensor]


@dataclass
class AutoencoderOutput:
    """What one pass gives to losses and demonstrations.

    Args:
        reference_waveform: The input (B, C, S).
        reference_spectrogram: What spectral losses compare with: stacked (B, 2C, F, T), float32 or float64,
            compressed or linear as `apply_target` says.
        estimate_spectrogram: The reconstruction, likewise.
        latents: (B, D', L) after the bottleneck.
        loss_info: Scalars of the bottleneck, by name.
        synthesise: Computes the estimated waveform.
    """

    reference_waveform: Tensor
    reference_spectrogram: Tensor
    estimate_spectrogram: Tensor
    latents: Tensor
    loss_info: dict[str, Tensor]
    synthesise: Callable[[], Tensor] = field(repr=False)

    @cached_property
    def waveform(self) -> Tensor:
        """The reconstruction (B, C, S) of the input's length; the inverse STFT runs at the first use."""
        return self.synthesise()


class SpectrogramAutoencoder(nn.Module):
    """Reconstructs waveforms of any length through latents of their spectrogram.

    STFT, compression and their inverses run in float32 (float64 for float64 input) whatever the precision of
    the networks; only encoder and decoder see autocast.

    Args:
        stft: Analysis and synthesis.
        compression: Magnitude compression before the encoder.
        encoder: (B, 2C, F, T) to (B, D, L).
        decoder: (B, D', L) to (B, 2C, F, T).
        bottleneck: (B, D, L) to (B, D', L).
        apply_target: Whether spectral losses compare compressed spectrograms instead of linear ones.
    """

    def __init__(
        self,
        stft: Stft,
        compression: Compression,
        encoder: SpectrogramEncoder,
        decoder: SpectrogramDecoder,
        bottleneck: Bottleneck,
        *,
        apply_target: bool,
    ) -> None:
        super().__init__()
        assert encoder.time_stride == decoder.time_stride
        assert bottleneck.latent_channels == decoder.latent_channels
        self.stft, self.compression = stft, compression
        self.encoder, self.bottleneck, self.decoder = encoder, bottleneck, decoder
        self.apply_target = apply_target
        self.options = TrainingOptions()
        self._form = Form()
        self._training_passes: tuple[_AnalysisPass, _DecodingPass] | None = None

    @property
    def form(self) -> Form:
        """The form in which training passes compute."""
        return self._form

    def set_form(self, form: Form) -> None:
        """Choose the form in which training passes compute; weights and their names stay."""
        self._form, self._training_passes = form, None
        for network in (self.encoder, self.decoder):
            network.folds = form.fold and network.cannot_fold is None
        if form.compile:
            # Triton's own division is off by two units in the last place: so would every filter's length be.
            options: dict[str, Any] = {
                "triton.cudagraphs": form.graphs,
                "eager_numerics.division_rounding": True,
            }
            self._training_passes = (
                torch.compile(self._analysis_pass, fullgraph=True, dynamic=False, options=options),
                torch.compile(self._decoding_pass, fullgraph=True, dynamic=False, options=options),
            )

    @property
    def latent_channels(self) -> int:
        """Real numbers per latent frame, D'."""
        return self.bottleneck.latent_channels

    @property
    def time_stride(self) -> int:
        """Spectrogram frames per latent frame."""
        return self.encoder.time_stride

    @property
    def latent_hop_samples(self) -> int:
        """Samples per latent frame."""
        return self.stft.hop_length * self.time_stride

    @property
    def receptive_field_frames(self) -> int:
        """A bound on the spectrogram frames that can influence one output frame, normalisation left aside."""
        return self.encoder.receptive_field_frames + self.decoder.receptive_field_frames

    @property
    def has_global_statistics(self) -> bool:
        """Whether a frame may depend on all frames (norm, attention, recurrence): chunks cannot equal the whole."""
        return self.encoder.has_global_statistics or self.decoder.has_global_statistics

    def forward(
        self, waveform: Tensor, noise: Noise | None = None, mask: Noise | None = None
    ) -> AutoencoderOutput:
        """Reconstructs a batch.

        Args:
            waveform: (B, C, S), full scale 1.0.
            noise: Standard normal values by shape for a sampling bottleneck in training; see `Bottleneck`.
            mask: Values in [0, 1) by shape that decide which latents training masks; None draws them from torch's
                own generator.

        Returns:
            Estimates, references, latents and the bottleneck's statistics.
        """
        num_samples = waveform.shape[-1]
        analyse, decode = self._passes()
        reference, latents = analyse(waveform)
        latents, loss_info = self.bottleneck(latents, noise)
        if self.training and self.options.latent_mask_ratio:
            uniform = mask or torch.rand
            ratio = self.options.latent_mask_ratio
            latents = mask_latents(latents, ratio, uniform, self.bottleneck.complex_valued)
        estimate = decode(latents, reference.shape[-1])

        def synthesise() -> Tensor:
            linear = self.compression.inverse(estimate) if self.apply_target else estimate
            return self.stft.inverse(unstack(linear), num_samples)

        return AutoencoderOutput(waveform, reference, estimate, latents, loss_info, synthesise)

    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform (B, C, S) to latents (B, D', L) after the bottleneck: its mean in evaluation mode."""
        latents, _ = self.bottleneck(self._encode(self.compression(stack(self.stft(waveform)))), None)
        return latents

    def decode(self, latents: Tensor, num_samples: int) -> Tensor:
        """Latents (B, D', L) to a waveform (B, C, num_samples).

        Raises:
            ShapeError: There are too few latent frames for `num_samples`.
        """
        num_frames = self.stft.num_frames(num_samples)
        given = latents.shape[-1] * self.time_stride
        if given < num_frames:
            raise ShapeError(f"the latents give {given} frames, but {num_samples} samples need {num_frames}")
        linear = self.compression.inverse(self._decode(latents, num_frames))
        return self.stft.inverse(unstack(linear), num_samples)

    def _passes(self) -> "tuple[_AnalysisPass, _DecodingPass]":
        """The two halves of `forward`, compiled where that is asked for: not for validation, which has other shapes."""
        if self._training_passes is not None and self.training and torch.is_grad_enabled():
            return self._training_passes
        return self._analysis_pass, self._decoding_pass

    def _analysis_pass(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """What spectral losses compare with, and the encoder's latents."""
        reference = stack(self.stft(waveform))
        compressed = self.compression(reference)
        return compressed if self.apply_target else reference, self._encode(compressed)

    def _decoding_pass(self, latents: Tensor, num_frames: int) -> Tensor:
        """What spectral losses compare."""
        estimate = self._decode(latents, num_frames)
        return estimate if self.apply_target else self.compression.inverse(estimate)

    def _encode(self, compressed: Tensor) -> Tensor:
        """The encoder's latents (B, D, L)."""
        padded = pad_to_multiple(compressed, self.time_stride, -1)
        padded = _cast_for(self.encoder, padded)
        plan = self._plan(self.encoder)
        if plan is None:
            return self.encoder(padded)
        return encode_in_pieces(self.encoder, padded, plan, self.time_stride)

    def _decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Compressed estimate (B, 2C, F, T) in float32 at least."""
        latents = _cast_for(self.decoder, latents)
        plan = self._plan(self.decoder)
        if plan is None:
            estimate = self.decoder(latents)
        else:
            estimate = decode_in_pieces(self.decoder, latents, plan, self.time_stride)
        return at_least_float32(trim(estimate, num_frames, -1))

    def _plan(self, network: SpectrogramEncoder | SpectrogramDecoder) -> PiecePlan | None:
        chunk = self.options.chunk_frames
        return (
            None if chunk is None else PiecePlan.of(chunk, network.receptive_field_frames, self.time_stride)
        )


def _cast_for(network: nn.Module, tensor: Tensor) -> Tensor:
    """Casts to the network's dtype, which differs from the signal path's under true half precision only."""
    return tensor.to(next(network.parameters()).dtype)

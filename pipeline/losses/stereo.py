"""Losses on the sum and the difference of two channels, where errors of the stereo image show."""

import math
from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from pipeline.errors import ConfigError, ShapeError
from pipeline.losses.base import Loss
from pipeline.losses.spectral import MultiResolutionStft
from pipeline.losses.time import L1


def to_mid_side(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Return `mid = (L + R) / sqrt(2)` and `side = (L - R) / sqrt(2)` of (B, 2, S), each (B, 1, S).

    With this scale the energies of mid and side add up to those of left and right.

    Raises:
        ShapeError: the waveform is not stereo.
    """
    if waveform.shape[1] != 2:
        raise ShapeError(f"mid and side are those of 2 channels, got the waveform {tuple(waveform.shape)}")
    left, right = waveform[:, :1], waveform[:, 1:]
    return (left + right) / math.sqrt(2), (left - right) / math.sqrt(2)


class _MidSide(Loss):
    """`w_mid * loss(mid) + w_side * loss(side)`; a term of weight 0 is not computed."""

    domain = "waveform"

    def __init__(self, loss: Loss, w_mid: float, w_side: float) -> None:
        super().__init__()
        if w_mid == w_side == 0:
            raise ConfigError("w_mid and w_side are both 0; at least one must be positive")
        self.loss = loss
        self.weights = (w_mid, w_side)

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two stereo waveforms (B, 2, S)."""
        kept = [number for number, weight in enumerate(self.weights) if weight]
        pairs = [to_mid_side(waveform) for waveform in (estimate, reference)]
        # one call for both: twice the examples cost a GPU less than twice the kernels
        found, wanted = (torch.cat([pair[number] for number in kept]) for pair in pairs)
        values = self.loss.per_example(found, wanted).split(estimate.shape[0])
        weighted = [self.weights[number] * value for number, value in zip(kept, values, strict=True)]
        return sum(weighted[1:], start=weighted[0])


class MidSideStft(_MidSide):
    """`mrstft` on mid and side: `w_mid * mrstft(mid) + w_side * mrstft(side)`.

    The spectral convergence is left out unless `w_sc` is given: it divides by the reference's norm, and the side of
    music that is nearly mono has almost none.

    Args:
        fft_sizes: as of `mrstft`.
        hop_sizes: as of `mrstft`.
        win_lengths: as of `mrstft`.
        w_sc: as of `mrstft`.
        w_log_mag: as of `mrstft`.
        w_lin_mag: as of `mrstft`.
        eps: as of `mrstft`.
        n_mels: as of `mrstft`.
        a_weighting: as of `mrstft`.
        w_mid: weight of the mid channel.
        w_side: weight of the side channel.
        sample_rate_hz: of the waveforms; supplied by the program.

    Raises:
        ConfigError: as of `mrstft`, or two zero weights.

    Source:
        Steinmetz et al.: Automatic multitrack mixing with a differentiable mixing console of neural audio effects
        (2021), stereo loss on sum and difference; here with the orthonormal scale.
    """

    def __init__(
        self,
        fft_sizes: Sequence[PositiveInt] = (512, 1024, 2048),
        hop_sizes: Sequence[PositiveInt] | None = None,
        win_lengths: Sequence[PositiveInt] | None = None,
        w_sc: NonNegativeFloat = 0.0,
        w_log_mag: NonNegativeFloat = 1.0,
        w_lin_mag: NonNegativeFloat = 1.0,
        eps: PositiveFloat = 1e-5,
        n_mels: Sequence[PositiveInt] | None = None,
        a_weighting: bool = False,
        w_mid: NonNegativeFloat = 1.0,
        w_side: NonNegativeFloat = 1.0,
        *,
        sample_rate_hz: int | None = None,
    ) -> None:
        inner = MultiResolutionStft(
            fft_sizes,
            hop_sizes,
            win_lengths,
            w_sc,
            w_log_mag,
            w_lin_mag,
            eps,
            n_mels,
            a_weighting,
            sample_rate_hz=sample_rate_hz,
        )
        super().__init__(inner, w_mid, w_side)


class MidSideL1(_MidSide):
    """`l1` on mid and side: `w_mid * mean |mid' - mid| + w_side * mean |side' - side|`.

    Args:
        w_mid: weight of the mid channel.
        w_side: weight of the side channel.

    Raises:
        ConfigError: two zero weights.
    """

    def __init__(self, w_mid: NonNegativeFloat = 1.0, w_side: NonNegativeFloat = 1.0) -> None:
        super().__init__(L1(), w_mid, w_side)

"""A loss on phases."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from pipeline.dsp.complex_channels import magnitude_squared, scale_by
from pipeline.losses.base import Loss

_SILENCE = 1e-12


class PhaseCosine(Loss):
    """Cosine distance of phases, weighted by energy: `sum w (1 - cos(arg E - arg R)) / sum w` of each example.

    `1 - cos` is computed as `|E/|E| - R/|R||^2 / 2`, which loses nothing to cancellation near 0. Magnitudes below
    `eps` are divided by `eps` instead, so that neither the value nor the gradient blows up at silence; a bin whose
    weight is 0 has no say, and two silent examples have the distance 0. No gradient flows through the weights: the
    loss turns phases and leaves levels to others.

    Args:
        energy: what the weight is taken from: `reference` is |R|, `mean` is (|E| + |R|) / 2.
        power: exponent of the weight, `w = energy^power`; 0 weights all bins alike.
        eps: smallest magnitude whose phase counts fully, on the scale of the spectrograms compared.

    Source:
        The weighting by energy follows the practice of complex spectrogram autoencoders; 1 - cos is the negative
        logarithm of a von Mises density, Takamichi et al.: Phase reconstruction from amplitude spectrograms based on
        von-Mises-distribution deep neural network (2018).
    """

    domain = "spectrogram"

    def __init__(
        self,
        energy: Literal["reference", "mean"] = "reference",
        power: NonNegativeFloat = 1.0,
        eps: PositiveFloat = 1e-4,
    ) -> None:
        super().__init__()
        self.energy = energy
        self.power = power
        self.eps = eps

    def per_example(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Return (B,) values from two stacked spectrograms (B, 2C, F, T)."""
        found, wanted = magnitude_squared(estimate), magnitude_squared(reference)
        distance = 0.5 * magnitude_squared(self._phasors(estimate, found) - self._phasors(reference, wanted))
        weight = wanted.detach().sqrt()
        if self.energy == "mean":
            weight = 0.5 * (weight + found.detach().sqrt())
        weight = weight.pow(self.power)
        return (weight * distance).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=_SILENCE)

    def _phasors(self, stacked: Tensor, squared: Tensor) -> Tensor:
        # the gradient of the clamp is 0 at silence, where that of a square root would be infinite
        return scale_by(stacked, squared.clamp(min=self.eps**2).rsqrt())

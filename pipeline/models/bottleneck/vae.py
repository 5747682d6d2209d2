"""Variational bottleneck."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.dsp.complex_channels import join, split
from pipeline.dsp.precision import at_least_float32
from pipeline.models.bottleneck.base import Bottleneck, Noise
from pipeline.models.geometry import BOTTLENECK_TRAITS

SMALLEST_SIGMA = 1e-4


class VAEBottleneck(Bottleneck):
    """Diagonal Gaussian latents: the first half of the channels is the mean, the second half the scale.

    sigma = softplus(scale) + 1e-4; z = mean + sigma * noise in training, z = mean in evaluation;
    KL = mean over batch and time of the sum over channels of mean^2 + sigma^2 - ln sigma^2 - 1.
    Complex latents are halved part by part, so a latent's mean and scale share their real and imaginary side.

    Source: Kingma, Welling, Auto-Encoding Variational Bayes, ICLR 2014 (there with a factor 1/2).
    """

    traits = BOTTLENECK_TRAITS["VAEBottleneck"]

    def __init__(self, *, dimension: int, complex_valued: bool) -> None:
        super().__init__(dimension=dimension, complex_valued=complex_valued)

    def forward(self, latents: Tensor, noise: Noise | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Halves the channels (B, D, L) to (B, D / 2, L), in float32 at least; `loss_info` has "kl"."""
        mean, scale = self._halve(at_least_float32(latents))
        sigma = functional.softplus(scale) + SMALLEST_SIGMA
        divergence = mean.square() + sigma.square() - 2 * sigma.log() - 1
        loss_info = {"kl": divergence.sum(dim=1).mean()}
        if not self.training:
            return mean, loss_info
        standard = torch.randn_like(mean) if noise is None else noise(mean.shape).to(mean)
        return mean + sigma * standard, loss_info

    def _halve(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if not self.complex_valued:
            mean, scale = latents.chunk(2, dim=1)
            return mean, scale
        (mean_real, scale_real), (mean_imag, scale_imag) = (part.chunk(2, dim=1) for part in split(latents))
        return join(mean_real, mean_imag), join(scale_real, scale_imag)

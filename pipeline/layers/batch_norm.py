"""Batch norm of real and complex channels, with statistics over all ranks."""

import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import join, split
from pipeline.dsp.precision import at_least_float32
from pipeline.layers.over_ranks import gather_over_ranks, is_recomputation
from pipeline.layers.whitening import ComplexAffine, inverse_root

MOMENTUM = 0.1


def batch_moments(parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of each channel over the batches of all ranks, and all axes but the channels.

    Each rank sums about its own mean in float64, and the shares are put together by
    M = sum_r M_r + n_r (mean_r - mean)(mean_r - mean)^T: no difference of large numbers, one message, and the
    same bits on every rank.

    Args:
        parts: (B, C, ...) each: the features, or real and imaginary parts. Ranks may hold unequal batches.

    Returns:
        Elements per channel, a scalar; means (parts, C); covariances (entries, C), of the parts with
        themselves in their order, then of the first with the second part. All float64.

    Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm, 1979, equation 2.1.
    """
    pairs = [(place, place) for place in range(len(parts))] + ([(0, 1)] if len(parts) == 2 else [])
    dims = tuple(dim for dim in range(parts[0].dim()) if dim != 1)
    means = [part.mean(dim=dims, keepdim=True, dtype=torch.float64) for part in parts]
    centred = [part - mean.to(part.dtype) for part, mean in zip(parts, means, strict=True)]
    moments = [(centred[a] * centred[b]).sum(dim=dims, dtype=torch.float64) for a, b in pairs]
    num_channels = parts[0].shape[1]
    own_count = means[0].new_full((1, num_channels), parts[0].numel() / num_channels)
    own = torch.cat((own_count, torch.stack([mean.flatten() for mean in means]), torch.stack(moments)))
    counts, all_means, all_moments = gather_over_ranks(own).split((1, len(parts), len(pairs)), dim=1)
    count = counts.sum(0)
    mean = (counts * all_means).sum(0) / count
    apart = all_means - mean
    between = torch.stack([apart[:, a] * apart[:, b] for a, b in pairs], dim=1)
    covariance = (all_moments + counts * between).sum(0) / count
    return count[0, 0], mean, covariance


class _RunningMoments(nn.Module):
    """What evaluation takes for the batch's moments: their running mean over the training batches.

    Args:
        mean: Initial means (parts, C).
        covariance: Initial covariances (entries, C).
        momentum: Share of the newest batch.
    """

    running_mean: Tensor
    running_covariance: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_covariance", covariance)

    def forward(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Mean (parts, C) and covariance (entries, C), float64: the batch's own in training, else the running ones."""
        if not self.training:
            return self.running_mean.double(), self.running_covariance.double()
        count, mean, covariance = batch_moments(parts)
        if not is_recomputation():
            with torch.no_grad():
                self._follow(self.running_mean, mean)
                self._follow(self.running_covariance, covariance * count / (count - 1).clamp_min(1))
        return mean, covariance

    def _follow(self, running: Tensor, newest: Tensor) -> None:
        # A batch that overflows in float16 is skipped by the scaler; it must not stay here for ever.
        newest = torch.where(newest.isfinite(), newest.to(running.dtype), running)
        running.lerp_(newest, self.momentum)


class BatchNorm(nn.Module):
    """Batch norm of real channels, over the batches of all ranks.

    y = gamma (x - mean) / sqrt(var + eps) + beta; in evaluation mean and var are running means,
    running = (1 - momentum) running + momentum batch, with the unbiased variance.

    Args:
        num_channels: Channels C.
        eps: Added to the variance.
        momentum: Share of the newest batch in the running statistics.

    Source: Ioffe, Szegedy, Batch Normalization, ICML 2015, algorithm 1.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.moments = _RunningMoments(torch.zeros(1, num_channels), torch.ones(1, num_channels), momentum)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape; the statistics are never in half precision."""
        features = at_least_float32(features)
        mean, variance = self.moments((features,))
        shape = (-1, *(1,) * (features.dim() - 2))
        scale = (variance[0] + self.eps).rsqrt().to(features.dtype) * self.weight
        centred = features - mean[0].to(features.dtype).view(shape)
        return centred * scale.view(shape) + self.bias.view(shape)


class ComplexBatchNorm(ComplexAffine):
    """Whitens each complex channel over the batches of all ranks.

    y = Gamma V^(-1/2) (z - mean) + bias with V the 2x2 covariance of (Re z, Im z) over batch and axes; in
    evaluation mean and V are running means, with the unbiased V. Gamma starts as the identity, so that each
    part has variance 1.

    Args:
        num_channels: Complex channels C.
        eps: Added to both variances.
        momentum: Share of the newest batch in the running statistics.

    Source: Trabelsi et al., Deep Complex Networks, ICLR 2018, section 3.5 (there Gamma starts as I / sqrt 2).
    """

    def __init__(self, num_channels: int, eps: float = 1e-5, momentum: float = MOMENTUM) -> None:
        super().__init__(num_channels)
        self.eps = eps
        identity = torch.tensor([1.0, 1.0, 0.0]).unsqueeze(1).repeat(1, num_channels)
        self.moments = _RunningMoments(torch.zeros(2, num_channels), identity, momentum)

    def forward(self, stacked: Tensor) -> Tensor:
        """Maps (B, 2C, ...) to the same shape; the statistics are never in half precision."""
        parts = split(at_least_float32(stacked))
        mean, covariance = self.moments(parts)
        shape = (-1, *(1,) * (stacked.dim() - 2))
        real, imag = (part - own.to(part.dtype).view(shape) for part, own in zip(parts, mean, strict=True))
        var_real, var_imag = covariance[0] + self.eps, covariance[1] + self.eps
        entries = inverse_root(var_real, var_imag, covariance[2], self.eps)
        real_real, imag_imag, real_imag = (entry.view(shape) for entry in entries)
        return join(*self.apply_to(real, imag, (real_real, imag_imag, real_imag), shape))

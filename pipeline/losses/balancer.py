"""Losses that share the gradient as their weights say, whatever their scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

_NO_GRADIENT = 1e-12


class Ranks(Protocol):
    """The processes that train together."""

    @property
    def is_first(self) -> bool:
        """Whether this process has the first examples of a batch over all ranks."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks; every rank calls it at the same place."""


class Alone:
    """One process."""

    is_first = True

    def total(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


@dataclass(frozen=True)
class GradientNorms:
    """Gradient norms of one batch on one rank.

    Attributes:
        sums: (N + 1,) float64, the sum over the examples of each term's norm, and the number of examples.
        first: (N,) float64, norms of the first example of the batch over all ranks; None where averages are known.
    """

    sums: Tensor
    first: Tensor | None


@dataclass(frozen=True)
class Balanced:
    """The balanced part of the loss of one batch.

    Attributes:
        total: scalar whose gradient is the balanced one.
        weighted: each term times the factor that it got, detached scalars.
        norms: to be noted once the batch is known to count.
    """

    total: Tensor
    weighted: list[Tensor]
    norms: GradientNorms


class GradientBalancer(nn.Module):
    """Gives term i the share `weight_i / sum of weights` of the gradient at the model's output.

    With g_i the gradient of term i with respect to the estimate, and <n_i> the running mean over optimiser steps of
    the mean over examples of its norm, the estimate gets the gradient

        G = total_norm * sum_i (weight_i / sum_j weight_j) * g_i / <n_i>

    so that one backward pass goes through the networks, and clipping, accumulation and scaling see one loss. The norm
    of an example is that of its own loss, not divided by the batch: it depends neither on the batch size nor on the
    number of ranks. The running mean moves once per optimiser step, after the step's last batch, by the mean over the
    examples of all its batches on all ranks: however a step is cut, it is balanced alike. So a step uses the norms of
    the steps before it; the first one, which has none, uses those of its first example. A term without a gradient
    gets no factor; norms that are not finite are not noted.

    Args:
        num_terms: losses N that share.
        total_norm: norm of the gradient of one example if all terms pulled the same way.
        ema_decay: weight of the past in the running mean after each step; 0 forgets all but the newest step.

    Source:
        Defossez et al.: High fidelity neural audio compression (2022), section 3.4; there the newest batch is in the
        mean already.
    """

    norms: Tensor
    updates: Tensor

    def __init__(self, num_terms: int, total_norm: float, ema_decay: float) -> None:
        super().__init__()
        self.total_norm = total_norm
        self.ema_decay = ema_decay
        self.register_buffer("norms", torch.zeros(num_terms, dtype=torch.float64))
        self.register_buffer("updates", torch.zeros(1, dtype=torch.float64))
        self._pending: Tensor | None = None  # of the optimiser step under way
        self._first: Tensor | None = None

    def forward(
        self,
        estimate: Tensor,
        values: Sequence[Tensor],
        weights: Sequence[float],
        is_first_step: bool,
        ranks: Ranks,
    ) -> Balanced:
        """Return the loss whose gradient at the estimate is G.

        Args:
            estimate: (B, ...) float32 or float64, what all the terms are functions of.
            values: the terms, scalars that are means over the batch.
            weights: of the terms, positive.
            is_first_step: whether no optimiser step was done yet.
            ranks: the processes that train together.
        """
        num_examples = estimate.shape[0]
        gradients = [torch.autograd.grad(value, estimate, retain_graph=True)[0] for value in values]
        norms = num_examples * torch.stack(
            [torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64) for g in gradients]
        )
        sums = torch.cat((norms.sum(1), norms.new_full((1,), num_examples)))
        first = self._first_norms(norms, ranks) if is_first_step else None
        factors = self._factors(weights, first)
        scaled = torch.stack([f.to(g) * g for f, g in zip(factors, gradients, strict=True)])
        pull = (estimate * scaled.sum(0)).sum()
        weighted = [f.to(value) * value.detach() for f, value in zip(factors, values, strict=True)]
        return Balanced(
            torch.stack(weighted).sum() + (pull - pull.detach()), weighted, GradientNorms(sums, first)
        )

    def note(self, norms: GradientNorms) -> None:
        """Count a batch into the optimiser step under way."""
        self._first = norms.first if self._first is None else self._first
        self._pending = norms.sums if self._pending is None else self._pending + norms.sums

    def settle(self, ranks: Ranks) -> None:
        """Move the running means by the step that has just been computed; every rank calls it."""
        assert self._pending is not None, "an optimiser step without a batch"
        sums = ranks.total(self._pending)
        newest = sums[:-1] / sums[-1]
        is_finite = newest.isfinite().all()
        self.norms.copy_(torch.where(is_finite, self.ema_decay * self.norms + newest, self.norms))
        self.updates.copy_(torch.where(is_finite, self.ema_decay * self.updates + 1, self.updates))
        self._pending = self._first = None

    def _first_norms(self, norms: Tensor, ranks: Ranks) -> Tensor:
        if self._first is not None:
            return self._first
        return ranks.total(norms[:, 0].clone() if ranks.is_first else torch.zeros_like(norms[:, 0]))

    def _factors(self, weights: Sequence[float], first: Tensor | None) -> Tensor:
        """Return (N,) float64 factors of the terms."""
        # filled where they are needed: the host would wait for a copy
        shares = torch.stack([self.norms.new_full((), weight) for weight in weights])
        average = self.norms / self.updates.clamp(min=1e-30) if first is None else first
        factors = self.total_norm * shares / shares.sum() / average
        return torch.where(average > _NO_GRADIENT, factors, 0.0)

"""The weighted sum of all losses of a run."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from pipeline.config.registry import load
from pipeline.errors import ConfigError
from pipeline.losses import LOSSES
from pipeline.losses.balancer import Alone, GradientBalancer, GradientNorms, Ranks
from pipeline.losses.plan import ROOT, LossPlan, PlannedLoss
from pipeline.losses.weight_schedule import WeightSchedule


class Reconstruction(Protocol):
    """What a model hands to the losses; `models.autoencoder.AutoencoderOutput` is one."""

    @property
    def waveform(self) -> Tensor:
        """Estimate (B, C, S); read only by losses on waveforms, since it may cost an inverse STFT."""

    @property
    def reference_waveform(self) -> Tensor:
        """Reference (B, C, S)."""

    @property
    def estimate_spectrogram(self) -> Tensor:
        """Stacked estimate (B, 2C, F, T) in the domain that the losses compare."""

    @property
    def reference_spectrogram(self) -> Tensor:
        """Stacked reference (B, 2C, F, T) in the same domain."""

    @property
    def loss_info(self) -> Mapping[str, Tensor]:
        """Scalars that the bottleneck reports."""


class Term(NamedTuple):
    """One loss of the sum; `name` is `family/loss`."""

    name: str
    loss: nn.Module
    weight: WeightSchedule


@dataclass(frozen=True)
class LossReport:
    """The loss of one batch.

    Attributes:
        total: weighted sum, a scalar with its graph.
        values: `family/loss` -> raw value, detached scalar.
        weighted: `family/loss` -> weight, or what the balancer made of it, times raw value, detached scalar.
        norms: gradient norms of the batch, where a balancer is at work.
    """

    total: Tensor
    values: dict[str, Tensor]
    weighted: dict[str, Tensor]
    norms: GradientNorms | None = None


class CompositeLoss(nn.Module):
    """Sum of `weight(step) * loss` over the terms.

    Args:
        terms: the active losses, at least one, each name once, each weight positive.
        balancer: makes the weights of the reconstruction losses shares of the gradient; values that the bottleneck
            reports keep plain weights.
    """

    def __init__(self, terms: Sequence[Term], balancer: GradientBalancer | None = None) -> None:
        super().__init__()
        assert terms and len({term.name for term in terms}) == len(terms), terms
        assert all(term.weight.weight > 0 for term in terms), terms
        self.names = tuple(term.name for term in terms)
        self.weights = tuple(term.weight for term in terms)
        self.losses = nn.ModuleList(term.loss for term in terms)
        self.balancer = balancer

    def forward(self, output: Reconstruction, step: int = 0, ranks: Ranks | None = None) -> LossReport:
        """Return the total and each term of one batch.

        Args:
            output: of the model.
            step: optimiser steps done.
            ranks: the processes that train together, for a balancer; None is this one alone.

        Raises:
            ShapeError: an estimate and its reference differ in shape.
        """
        raw = [loss(*_inputs(output, str(loss.domain))) for loss in self.losses]
        weights = [weight.at(step) for weight in self.weights]
        if self.balancer is not None:
            return self._balanced(self.balancer, output, raw, weights, step == 0, ranks or Alone())
        scaled = [weight * value for weight, value in zip(weights, raw, strict=True)]
        total = sum(scaled[1:], start=scaled[0])
        return self._report(total, raw, scaled)

    def _balanced(
        self,
        balancer: GradientBalancer,
        output: Reconstruction,
        raw: list[Tensor],
        weights: list[float],
        is_first_step: bool,
        ranks: Ranks,
    ) -> LossReport:
        shared = [number for number, loss in enumerate(self.losses) if loss.domain != "value"]
        balanced = balancer(
            output.estimate_spectrogram,
            [raw[number] for number in shared],
            [weights[number] for number in shared],
            is_first_step,
            ranks,
        )
        scaled = [weight * value for weight, value in zip(weights, raw, strict=True)]
        plain = [scaled[number] for number in range(len(raw)) if number not in shared]
        for number, value in zip(shared, balanced.weighted, strict=True):
            scaled[number] = value
        return self._report(sum(plain, start=balanced.total), raw, scaled, balanced.norms)

    def _report(
        self, total: Tensor, raw: list[Tensor], scaled: list[Tensor], norms: GradientNorms | None = None
    ) -> LossReport:
        values = {name: value.detach() for name, value in zip(self.names, raw, strict=True)}
        weighted = {name: value.detach() for name, value in zip(self.names, scaled, strict=True)}
        return LossReport(total, values, weighted, norms)


def build_losses(
    plan: LossPlan,
    *,
    sample_rate_hz: int,
    where: str = ROOT,
    balance: tuple[float, float] | None = None,
) -> CompositeLoss:
    """Build the active losses of a plan.

    Args:
        plan: from `plan_losses`.
        sample_rate_hz: of the waveforms.
        where: full configuration path of the losses, for messages.
        balance: `total_norm` and `ema_decay` of a balancer; None for plain weights.

    Raises:
        ConfigError: a constructor refused a value.
    """
    terms = [_build(planned, sample_rate_hz, where) for planned in plan.active]
    num_shared = sum(term.loss.domain != "value" for term in terms)
    return CompositeLoss(terms, None if balance is None else GradientBalancer(num_shared, *balance))


def _build(planned: PlannedLoss, sample_rate_hz: int, where: str) -> Term:
    program: dict[str, Any] = {"sample_rate_hz": sample_rate_hz, "key": planned.name}
    loss_class = load(LOSSES[planned.family][planned.name])
    arguments = inspect.signature(loss_class).parameters.values()
    supplied = {item.name: program[item.name] for item in arguments if item.kind is item.KEYWORD_ONLY}
    try:
        loss = loss_class(**planned.config, **supplied)
    except ConfigError as error:
        raise ConfigError(f"{where}.{planned.family}.{planned.name}.config.{error}") from None
    return Term(f"{planned.family}/{planned.name}", loss, planned.schedule)


def _inputs(output: Reconstruction, domain: str) -> tuple[Any, ...]:
    """Return the arguments of a loss of this domain."""
    if domain == "spectrogram":
        return output.estimate_spectrogram, output.reference_spectrogram
    if domain == "waveform":
        return output.waveform, output.reference_waveform
    assert domain == "value", domain
    return (output.loss_info,)

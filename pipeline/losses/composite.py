"""The weighted sum of all losses of a run."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from pipeline.config.registry import load
from pipeline.errors import ConfigError
from pipeline.losses import LOSSES
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
        weighted: `family/loss` -> weight times raw value, detached scalar.
    """

    total: Tensor
    values: dict[str, Tensor]
    weighted: dict[str, Tensor]


class CompositeLoss(nn.Module):
    """Sum of `weight(step) * loss` over the terms.

    Args:
        terms: the active losses, at least one, each name once, each weight positive.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        assert terms and len({term.name for term in terms}) == len(terms), terms
        assert all(term.weight.weight > 0 for term in terms), terms
        self.names = tuple(term.name for term in terms)
        self.weights = tuple(term.weight for term in terms)
        self.losses = nn.ModuleList(term.loss for term in terms)

    def forward(self, output: Reconstruction, step: int = 0) -> LossReport:
        """Return the total and each term of one batch.

        Args:
            output: of the model.
            step: optimiser steps done.

        Raises:
            ShapeError: an estimate and its reference differ in shape.
        """
        raw = [loss(*_inputs(output, str(loss.domain))) for loss in self.losses]
        scaled = [weight.at(step) * value for weight, value in zip(self.weights, raw, strict=True)]
        total = sum(scaled[1:], start=scaled[0])
        values = {name: value.detach() for name, value in zip(self.names, raw, strict=True)}
        weighted = {name: value.detach() for name, value in zip(self.names, scaled, strict=True)}
        return LossReport(total, values, weighted)


def build_losses(plan: LossPlan, *, sample_rate_hz: int, where: str = ROOT) -> CompositeLoss:
    """Build the active losses of a plan.

    Args:
        plan: from `plan_losses`.
        sample_rate_hz: of the waveforms.
        where: full configuration path of the losses, for messages.

    Raises:
        ConfigError: a constructor refused a value.
    """
    return CompositeLoss([_build(planned, sample_rate_hz, where) for planned in plan.active])


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

"""The inverse-power learning-rate curve with exponential warm-up. Imports no torch."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pipeline.config.registry import check_arguments, parameters
from pipeline.training.arguments import reconcile

INVERSE_LR = "InverseLR"
_TARGET = "pipeline.training.inverse_curve:InverseCurve"


class InverseCurve:
    """The curve `lr(t) = (1 - warmup^(t+1)) * max(final_lr, lr0 * (1 + t/inv_gamma)^(-power))`.

    Args:
        inv_gamma: steps after which the rate has fallen to lr0 * 2^(-power), without warm-up.
        power: exponent of the decay.
        warmup: share of the warm-up that is left after each step, 0 for none.
        final_lr: the decay stops at this rate.
    """

    def __init__(
        self,
        inv_gamma: PositiveFloat = 1.0,
        power: NonNegativeFloat = 1.0,
        warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        final_lr: NonNegativeFloat = 0.0,
    ) -> None:
        self.inv_gamma = inv_gamma
        self.power = power
        self.warmup = warmup
        self.final_lr = final_lr

    def rate(self, initial_lr: float, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0."""
        decayed = initial_lr * (1 + step / self.inv_gamma) ** -self.power
        return (1 - self.warmup ** (step + 1)) * max(self.final_lr, decayed)


def reconcile_inverse_lr(
    config: Mapping[str, Any], inherited: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Fit a `trainer.scheduler.config` block to InverseLR and check it, all without torch.

    Args:
        config: the composed block.
        inherited: keys that the user did not choose.
        where: full configuration path of `config`.

    Returns:
        The checked block, defaults filled in, and the dropped keys.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value out of range.
    """
    kept, dropped = reconcile(INVERSE_LR, parameters(_TARGET), config, inherited, where)
    return check_arguments(_TARGET, kept, where), dropped

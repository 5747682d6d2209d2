"""How the weight of a loss changes over a run. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightSchedule:
    """`weight(t) = weight * min(1, (t + 1) / warmup) * decay^t` at optimiser step t, counted from 0.

    A function of the step alone: the same on every rank, in every batch of an accumulated step, and after a resume.

    Args:
        weight: of the loss, as configured.
        warmup: optimiser steps over which the weight rises in a straight line; 0 for none.
        decay: factor per optimiser step, above 0, at most 1; 1 for none.
    """

    weight: float
    warmup: int = 0
    decay: float = 1.0

    def at(self, step: int) -> float:
        """Return the weight at a step; exactly `weight` where nothing changes it."""
        risen = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.weight * risen * self.decay**step

    def __str__(self) -> str:
        """Return the weight as the start banner shows it."""
        parts = [f"{self.weight:g}"]
        if self.warmup:
            parts.append(f"rising over {self.warmup} steps")
        if self.decay != 1.0:
            parts.append(f"times {self.decay:g} a step")
        return ", ".join(parts)

"""The form in which a run trains: how networks and optimiser compute what stays the same. Imports no torch."""

from dataclasses import dataclass

from pipeline.models.form import Form


@dataclass(frozen=True)
class TrainingForm:
    """What a run computes with.

    Attributes:
        model: the form of encoder and decoder.
        fused_optimizer: whether one kernel updates all weights.
    """

    model: Form = Form()
    fused_optimizer: bool = False

    def __str__(self) -> str:
        """Words for a person, and for comparing two starts of a run."""
        return f"{self.model}; fused optimiser" if self.fused_optimizer else str(self.model)


PLAIN = TrainingForm()

"""The form in which a network computes; its function, weights and checkpoints are the same in every form.

Imports no torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How encoder and decoder compute.

    Attributes:
        fold: positions of fine resolutions are folded into channels, see `pipeline.layers.folding`.
        compile: training passes run through `torch.compile`.
    """

    fold: bool = False
    compile: bool = False

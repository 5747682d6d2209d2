"""The form in which a network computes in training; function, weights and checkpoints are the same in every form.

Imports no torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How the two halves of a training pass compute.

    Attributes:
        fold: positions of wide resolutions are folded into channels, see `pipeline.layers.folding`.
        compile: they run through `torch.compile`.
        graphs: what is compiled is launched as a whole, as CUDA graphs; needs `compile`.
    """

    fold: bool = False
    compile: bool = False
    graphs: bool = False

"""The form in which a network trains; function, weights and checkpoints are the same in every form.

Imports no torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """How training passes compute; validation and inference always compute layer by layer.

    Attributes:
        fold: positions of fine resolutions are folded into channels, see `pipeline.layers.folding`.
        compile: the two halves of a pass run through `torch.compile`.
        graphs: what is compiled is launched as a whole, as CUDA graphs; needs `compile`.
    """

    fold: bool = False
    compile: bool = False
    graphs: bool = False

    def __str__(self) -> str:
        """Words for a person."""
        named = {"folded": self.fold, "compiled": self.compile, "CUDA graphs": self.graphs}
        return ", ".join(name for name, chosen in named.items() if chosen) or "layer by layer"

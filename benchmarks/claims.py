"""What a benchmark claims, and its JSON file, which is complete up to the last thing measured."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console


@dataclass(frozen=True)
class Claim:
    """Something that a benchmark is to show.

    Attributes:
        sentence: with the measured figure.
        holds: whether it is so here.
    """

    sentence: str
    holds: bool

    @classmethod
    def at_most(cls, what: str, value: float, limit: float, unit: str = "") -> "Claim":
        """`what` is no more than a limit."""
        return cls(f"{what}: {value:.3g}{unit}, at most {limit:g}{unit}", value <= limit)

    @classmethod
    def at_least(cls, what: str, value: float, limit: float, unit: str = "") -> "Claim":
        """`what` is no less than a limit."""
        return cls(f"{what}: {value:.3g}{unit}, at least {limit:g}{unit}", value >= limit)


class Record:
    """Prints what a benchmark finds and writes it to a JSON file, at once.

    Args:
        path: of the file; None writes none.
        device: that is measured.
    """

    def __init__(self, path: Path | None, device: torch.device) -> None:
        is_gpu = device.type == "cuda"
        self.console = Console(width=120)
        self.claims: list[Claim] = []
        self._path = path
        self._found: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device)
            if is_gpu
            else f"CPU, {torch.get_num_threads()} threads",
            "torch": torch.__version__,
            "command": shlex.join(sys.argv),
        }

    def show(self, shown: Any) -> None:
        """Print a table or a line."""
        self.console.print(shown)
        self.console.file.flush()

    def keep(self, key: str, value: Any) -> None:
        """Write a result."""
        self._found[key] = value
        if self._path is not None:
            self._path.write_text(json.dumps(self._found, indent=2) + "\n", encoding="utf-8")

    def judge(self, claims: list[Claim]) -> None:
        """Print claims and whether they hold, and keep them."""
        self.claims += claims
        for claim in claims:
            self.show(f"{'met    ' if claim.holds else 'NOT met'}  {claim.sentence}")
        self.keep("claims", [{"claim": claim.sentence, "met": claim.holds} for claim in self.claims])

    @property
    def all_hold(self) -> bool:
        """Whether every claim holds."""
        return all(claim.holds for claim in self.claims)

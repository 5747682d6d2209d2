"""Which activation names a network accepts. Imports no torch."""

from difflib import get_close_matches

from pipeline.errors import ConfigError
from pipeline.layers import COMPLEX_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, REAL_ACTIVATIONS

PER_BIN = {"freqModReLU": "modReLU"}
"""Activations with parameters per frequency bin, and what they are where there is no frequency axis."""

_BY_PARTS = ("Snake",)  # of the real ones, what a complex network may apply to each part
_REAL_ONLY = {name: f"C{name}" for name in REAL_ACTIVATIONS if name not in _BY_PARTS}


def activation_choices(complex_valued: bool) -> tuple[str, ...]:
    """The names that a real or a complex network may use."""
    if complex_valued:
        return (*COMPLEX_ACTIVATIONS, *_BY_PARTS, *ELEMENTWISE_ACTIVATIONS)
    return (*REAL_ACTIVATIONS, *ELEMENTWISE_ACTIVATIONS)


def check_activation(name: str, complex_valued: bool) -> None:
    """Refuses a name that is no elementwise activation.

    Raises:
        ConfigError: The name is unknown, or of the other kind of network; the message lists the choices.
    """
    choices = activation_choices(complex_valued)
    if name in choices:
        return
    problem = "is no elementwise activation"
    if name in COMPLEX_ACTIVATIONS:
        problem = "needs complex_valued=true"
    elif name in REAL_ACTIVATIONS:
        problem = f"needs complex_valued=false; a complex network has {_REAL_ONLY[name]}"
    similar = get_close_matches(name, choices, n=1)
    hint = f"did you mean {similar[0]!r}? " if similar else ""
    raise ConfigError(f"activation={name!r} {problem}; {hint}Valid: {', '.join(choices)}")

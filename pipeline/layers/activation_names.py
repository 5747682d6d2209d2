"""Which activation names a network accepts. Imports no torch."""

from difflib import get_close_matches

from pipeline.errors import ConfigError
from pipeline.layers import COMPLEX_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS


def activation_choices(complex_valued: bool) -> tuple[str, ...]:
    """The names that a real or a complex network may use."""
    return (*COMPLEX_ACTIVATIONS, *ELEMENTWISE_ACTIVATIONS) if complex_valued else ELEMENTWISE_ACTIVATIONS


def check_activation(name: str, complex_valued: bool) -> None:
    """Refuses a name that is no elementwise activation.

    Raises:
        ConfigError: The name is unknown, or complex in a real network; the message lists the choices.
    """
    choices = activation_choices(complex_valued)
    if name in choices:
        return
    problem = "needs complex_valued=true" if name in COMPLEX_ACTIVATIONS else "is no elementwise activation"
    similar = get_close_matches(name, choices, n=1)
    hint = f"did you mean {similar[0]!r}? " if similar else ""
    raise ConfigError(f"activation={name!r} {problem}; {hint}Valid: {', '.join(choices)}")

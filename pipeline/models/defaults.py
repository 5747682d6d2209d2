"""What the arguments of a model's classes are where a configuration leaves them out. Imports no torch."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.registry import REQUIRED, parameters
from pipeline.models import BOTTLENECKS, DECODERS, ENCODERS

_REGISTRIES = {"encoder": ENCODERS, "decoder": DECODERS, "bottleneck": BOTTLENECKS}


def filled(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `model` group with every argument that its classes have a default for.

    A run that an earlier version began, or a file of the user's own, may not write arguments that came later.
    """
    tree = dict(model)
    for name, block, defaults in _blocks(model):
        tree[name] = {**block, "config": {**defaults, **(block.get("config") or {})}}
    return tree


def bare(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `model` group without the arguments that are their classes' defaults."""
    tree = dict(model)
    for name, block, defaults in _blocks(model):
        config = (block.get("config") or {}).items()
        tree[name] = {
            **block,
            "config": {key: value for key, value in config if key not in defaults or value != defaults[key]},
        }
    return tree


def _blocks(model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    for name, registry in _REGISTRIES.items():
        block = model.get(name)
        if isinstance(block, Mapping) and block.get("type") in registry:
            known = parameters(registry[block["type"]]).items()
            yield name, block, {key: entry.default for key, entry in known if entry.default is not REQUIRED}

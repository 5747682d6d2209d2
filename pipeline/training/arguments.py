"""Keyword arguments of torch's own classes: which of them YAML may set, their types, and what torch refuses.

Imports no torch, so that our own classes can be checked without it.
"""

import collections.abc
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.config.registry import REQUIRED, Parameter, explain, suggest
from pipeline.errors import ConfigError

_Built = TypeVar("_Built")

SUPPLIED = ("params", "optimizer")

NOT_FROM_YAML = {
    "last_epoch": "the program sets it when a run is resumed",
    "differentiable": "it needs parameters that are not leaves of the graph, which a model's never are",
    "scale_fn": "it is a Python function, which YAML cannot express",
}

# What torch raises for values that it checks itself, or that fail in its arithmetic.
REFUSALS = (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError, LookupError, AttributeError)


def class_parameters(cls: type) -> dict[str, Parameter]:
    """Return the keyword arguments of a torch class, without those that the program supplies."""
    signature = inspect.signature(cls)
    return {
        name: Parameter(_annotation(parameter, cls), _default(parameter))
        for name, parameter in signature.parameters.items()
        if name not in SUPPLIED
    }


def settable(known: Mapping[str, Parameter]) -> list[str]:
    """Return the names of arguments that YAML may set."""
    return [name for name in known if name not in NOT_FROM_YAML]


def reconcile(
    type_name: str,
    known: Mapping[str, Parameter],
    config: Mapping[str, Any],
    inherited: Mapping[str, Any],
    where: str,
) -> tuple[dict[str, Any], list[str]]:
    """Fit a `config` block, composed of defaults and the user's keys, to the class that is to take it.

    Args:
        type_name: name of the class, for messages.
        known: its arguments.
        config: the composed block.
        inherited: keys and values that the user did not choose, written for another class perhaps; where they
            stand unchanged in `config` and the class does not have them, they are dropped.
        where: full configuration path of `config`.

    Returns:
        The block without the dropped keys, and the dropped keys.

    Raises:
        ConfigError: a key that the class does not have, or a required one that is not given.
    """
    kept, dropped = {}, []
    for name, value in config.items():
        if name in known and name in NOT_FROM_YAML:
            raise ConfigError(f"{where}.{name}: cannot be set: {NOT_FROM_YAML[name]}")
        if name in known:
            kept[name] = value
        elif name in inherited and inherited[name] == value:
            dropped.append(name)
        else:
            choices = suggest(name, settable(known))
            raise ConfigError(f"{where}.{name}: {type_name} has no such argument; {choices}")
    for name in settable(known):
        if known[name].default is REQUIRED and name not in kept:
            choices = ", ".join(settable(known))
            raise ConfigError(f"{where}.{name}: {type_name} requires it; valid keys: {choices}")
    return kept, dropped


def typed(known: Mapping[str, Parameter], config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the types of a reconciled block; lists become tuples where the class takes tuples.

    Raises:
        ConfigError: a value of the wrong type, infinite or not a number; led by its full path.
    """
    values = {}
    for name, value in config.items():
        annotation = known[name].annotation
        if isinstance(value, list) and _takes_tuple(annotation):
            value = tuple(value)
        rules = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
        try:
            TypeAdapter(_listed(annotation), config=rules).validate_python(value, strict=True)
        except ValidationError as error:
            raise ConfigError(f"{where}.{name}={config[name]!r}: {explain(error)}") from None
        values[name] = value
    return values


def rehearse(
    build: Callable[[dict[str, Any]], _Built], type_name: str, config: dict[str, Any], where: str
) -> _Built:
    """Build a throw-away object; what torch refuses becomes an error with the path of the key at fault.

    Args:
        build: builds and tries the object from a block; called again, without one key each, after a refusal.
        type_name: name of the class, for messages.
        config: the block.
        where: full configuration path of `config`.

    Raises:
        ConfigError: torch refused the block.
    """
    try:
        return build(config)
    except REFUSALS as error:
        key = _offender(build, config)
        path = f"{where}={config}" if key is None else f"{where}.{key}={config[key]!r}"
        raise ConfigError(f"{path}: {type_name} refuses it: {error}") from None


def _offender(build: Callable[[dict[str, Any]], object], config: dict[str, Any]) -> str | None:
    """Return the first key without which the block is accepted, or its only key."""
    for name in config:
        try:
            build({key: value for key, value in config.items() if key != name})
        except REFUSALS:
            continue
        return name
    return next(iter(config)) if len(config) == 1 else None


def _default(parameter: inspect.Parameter) -> Any:
    return REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default


def _annotation(parameter: inspect.Parameter, cls: type) -> Any:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    names = {**vars(typing), **vars(collections.abc), **vars(sys.modules[cls.__module__])}
    try:
        return eval(annotation, names)
    except NameError:
        return Any  # torch imports some names for type checkers only


def _arms(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself."""
    return typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else (annotation,)


def _takes_tuple(annotation: Any) -> bool:
    return any(typing.get_origin(arm) is tuple for arm in _arms(annotation))


def _listed(annotation: Any) -> Any:
    """Read `Iterable[X]` as `list[X]`: pydantic would not look inside an iterable."""
    if typing.get_origin(annotation) is collections.abc.Iterable:
        return list[typing.get_args(annotation)]  # type: ignore[misc]
    return annotation


_UNIONS = (typing.Union, type(int | None))

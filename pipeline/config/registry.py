"""Name -> class: the only place where text in a YAML file becomes an object.

Each family keeps one plain dictionary `{"Name": "package.module:Class"}`. A block `{type, config}` is checked against
the signature of that class, read from its source by `ast`: names, types and ranges are refused without importing
torch, and the constructor stays the only place where they are written. Positional arguments belong to the YAML file,
keyword-only arguments to the program.
"""

import ast
import builtins
import difflib
import importlib
import importlib.util
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ConfigError

REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """One argument that a YAML file may set."""

    annotation: Any
    default: Any = REQUIRED


@dataclass(frozen=True)
class Block:
    """A checked `{type, config}` block; `config` holds every argument, defaults filled in."""

    type: str
    config: dict[str, Any]
    target: str


class _AnnotationNames(dict[str, Any]):
    """Names that an annotation of a registered class may use: typing and pydantic."""

    def __missing__(self, name: str) -> Any:
        for module in (typing, pydantic, builtins):
            if hasattr(module, name):
                return getattr(module, name)
        raise KeyError(name)


def suggest(name: object, choices: Iterable[str]) -> str:
    """Return the valid choices as text, led by the closest one: `did you mean 'a'? Valid: a, b`."""
    names = sorted(str(choice) for choice in choices)
    by_lower = {choice.lower(): choice for choice in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[close[0]]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(names) if names else '(none)'}"


def load(target: str) -> Any:
    """Import and return the class named by `package.module:Class`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _find_init(tree: ast.Module, class_name: str) -> ast.FunctionDef | None:
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    node = classes.get(class_name)
    while node is not None:
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return item
        bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
        node = classes[bases[0]] if bases else None
    return None


@cache
def parameters(target: str) -> Mapping[str, Parameter]:
    """Read the YAML arguments of a registered class from its source, without importing it."""
    module, _, class_name = target.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, target
    init = _find_init(ast.parse(Path(spec.origin).read_text(encoding="utf-8")), class_name)
    if init is None:
        return {}
    arguments = init.args.args[1:]  # without self
    defaults: list[Any] = [REQUIRED] * (len(arguments) - len(init.args.defaults))
    defaults += [ast.literal_eval(default) for default in init.args.defaults]
    found = {}
    for argument, default in zip(arguments, defaults, strict=True):
        assert argument.annotation is not None, f"{target}: {argument.arg} has no annotation"
        source = ast.unparse(argument.annotation)
        found[argument.arg] = Parameter(eval(source, {}, _AnnotationNames()), default)
    return found


def explain(error: ValidationError) -> str:
    """Return pydantic's first complaint as one plain sentence."""
    first = error.errors()[0]
    inside = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
    return f"{inside + ': ' if inside else ''}{first['msg']}"


def check_arguments(target: str, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check YAML arguments against a registered class and fill in its defaults.

    Args:
        target: `package.module:Class`.
        config: arguments from the YAML file.
        where: full configuration path of `config`, for messages.

    Returns:
        Every YAML argument of the class with its checked value.

    Raises:
        ConfigError: an unknown, missing or wrongly typed argument, with its full path and the valid choices.
    """
    known = parameters(target)
    for name in config:
        if name not in known:
            raise ConfigError(f"{where}.{name}: unknown key; {suggest(name, known)}")
    values = {}
    for name, parameter in known.items():
        if name not in config:
            if parameter.default is REQUIRED:
                raise ConfigError(f"{where}.{name}: required and not given; valid keys: {', '.join(known)}")
            values[name] = parameter.default
            continue
        try:
            values[name] = TypeAdapter(parameter.annotation).validate_python(config[name], strict=True)
        except ValidationError as error:
            raise ConfigError(f"{where}.{name}={config[name]!r}: {explain(error)}") from None
    return values


def check_block(spec: Mapping[str, Any], registry: Mapping[str, str], where: str) -> Block:
    """Check a `{type, config}` block: the type against the registry, the config against the class.

    Raises:
        ConfigError: unknown keys, an unknown type or arguments that do not fit; names the full path and the choices.
    """
    for key in spec:
        if key not in ("type", "config"):
            raise ConfigError(f"{where}.{key}: unknown key; {suggest(key, ('type', 'config'))}")
    name = spec.get("type")
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f"{where}.type={name!r}: unknown; {suggest(name, registry)}")
    config = spec.get("config") or {}
    return Block(name, check_arguments(registry[name], config, f"{where}.config"), registry[name])


def build(spec: Mapping[str, Any], registry: Mapping[str, str], where: str, **runtime: Any) -> Any:
    """Build the object that a `{type, config}` block describes; `runtime` holds what the program supplies.

    Raises:
        ConfigError: as `check_block`, or the constructor refused a value; its full path leads the message.
    """
    block = check_block(spec, registry, where)
    try:
        return load(block.target)(**block.config, **runtime)
    except ConfigError as error:
        raise ConfigError(f"{where}.config.{error}") from None

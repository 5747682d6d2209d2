"""The base of every schema class, and the translation of a failed validation into one plain sentence."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config.registry import suggest
from pipeline.errors import ConfigError


class Section(BaseModel):
    """One section of the configuration tree: fixed keys, strict types, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _known_paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _known_paths(field.annotation, f"{prefix}{name}.")


def _locate(root: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """Return the dotted path of an error and the section that holds its last key (None inside free-form values)."""
    path: list[str] = []
    section: type[BaseModel] | None = root
    holder: type[BaseModel] | None = root
    for part in location:
        if section is None:
            break  # what follows names members of a union, not keys
        holder = section
        path.append(str(part))
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else None
        section = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return ".".join(path), holder


def _misplaced(root: type[BaseModel], path: str) -> list[str]:
    leaf = path.rpartition(".")[2]
    return [known for known in _known_paths(root) if known.rpartition(".")[2] == leaf]


def translate(root: type[BaseModel], error: ValidationError, owners: dict[str, str]) -> ConfigError:
    """Turn pydantic's report into a ConfigError that names the full path of the key and the valid choices.

    Args:
        root: schema of the whole tree.
        error: what pydantic reported.
        owners: full path of a key that another key owns -> the sentence that says so.
    """
    problems = error.errors()
    path, holder = _locate(root, problems[0]["loc"])
    if problems[0]["type"] == "extra_forbidden":
        if path in owners:
            return ConfigError(f"{path}: {owners[path]}")
        elsewhere = _misplaced(root, path)
        known = sorted(holder.model_fields) if holder else []
        choices = f"Valid: {', '.join(known)}" if elsewhere else suggest(path.rpartition(".")[2], known)
        hint = f"did you mean {elsewhere[0]}? " if elsewhere else ""
        return ConfigError(f"{path}: unknown key; {hint}{choices}")
    if problems[0]["type"] == "missing":
        return ConfigError(f"{path}: required and not given")
    same_key = [problem for problem in problems if _locate(root, problem["loc"])[0] == path]
    reasons = " or ".join(dict.fromkeys(problem["msg"].removeprefix("Value error, ") for problem in same_key))
    return ConfigError(f"{path}={_shown(problems[0]['input'])}: {reasons}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

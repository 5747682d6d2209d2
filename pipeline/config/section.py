"""The base of every schema class, and the translation of a failed validation into one plain sentence."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.config.registry import suggest
from pipeline.errors import ConfigError


def _require_name(value: str) -> str:
    if PurePath(value).is_absolute() or {".", ".."} & set(value.split("/")) or not value.isprintable():
        raise ValueError("a name, which becomes a folder; '.', '..' and a leading '/' have no place in it")
    return value


def _require_word(value: str) -> str:
    if not value.isprintable() or " " in value:
        raise ValueError("one word, without spaces")
    return value


def _require_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("one line of text")
    return value


def _as_list(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("["):  # Hydra could not read it as a list
        raise ValueError(
            'entries with spaces, = or other signs are quoted, and the whole, too: \'["a b","c=d"]\''
        )
    return [value] if isinstance(value, str) else value


# An empty path would silently mean the working directory, most often because a shell variable was not set.
PathText = Annotated[str, Field(min_length=1)]
NameText = Annotated[str, Field(min_length=1), AfterValidator(_require_name)]
Line = Annotated[str, AfterValidator(_require_line)]
Lines = Annotated[list[str], BeforeValidator(_as_list)]
Word = Annotated[str, Field(min_length=1), AfterValidator(_require_word)]

_BLOCK_EXPECTED = ("model_type", "dict_type")


class Section(BaseModel):
    """One section of the configuration tree: fixed keys, strict types, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _known_paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = _as_section(field.annotation)
        if inner is not None:
            yield from _known_paths(inner, f"{prefix}{name}.")


def _locate(root: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """Return the dotted path of an error and the section that holds its last key."""
    path: list[str] = []
    section: type[BaseModel] | None = root
    holder: type[BaseModel] | None = root
    free_form: Any = None
    for part in location:
        if section is None:  # what follows are keys of a free-form block, or members of a union
            if free_form is dict:
                path.append(str(part))
            elif free_form is list:
                path[-1] += f"[{part}]"
            break
        holder = section
        path.append(str(part))
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else None
        section = _as_section(annotation)
        free_form = get_origin(annotation)
    return ".".join(path), holder


def _as_section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


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
    reasons = " or ".join(dict.fromkeys(_reason(problem, path, holder) for problem in same_key))
    return ConfigError(f"{path}={_shown(problems[0]['input'])}: {reasons}")


def _reason(problem: Any, path: str, holder: type[BaseModel] | None) -> str:
    if problem["type"] not in _BLOCK_EXPECTED:
        return str(problem["msg"]).removeprefix("Value error, ")
    field = holder.model_fields.get(path.rpartition(".")[2]) if holder else None
    section = _as_section(field.annotation) if field else None
    keys = f"; valid keys: {', '.join(sorted(section.model_fields))}" if section else ""
    return f"a block of keys is expected here{keys}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

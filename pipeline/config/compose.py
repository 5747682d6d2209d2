"""From the command line to one checked tree: Hydra composes, this module opens, settles and freezes the result.

The composed tree of a run is written once, as `config.yaml` in its directory; everything later starts from that file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.config import deepspeed_json, group_files, older_runs
from pipeline.config.atomic import write_text
from pipeline.config.launcher_schema import SLURM_LAUNCHER
from pipeline.config.registry import suggest
from pipeline.config.schema import RESUME_WORDS, Config, parse
from pipeline.errors import ConfigError

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
_PLAIN_OVERRIDE = re.compile(r"^[A-Za-z_][\w.-]*=")
_DEEPSPEED = "trainer.deepspeed"
_ONE_VALUE = ("trainer.trainer.max_time", "trainer.trainer.val_check_interval")  # {hours: 1} is one duration
_NO_BLOCK = re.compile(r"node `([\w.]+)` is not a container")  # said by OmegaConf
_NO_FILE_NAME = re.compile(
    r"(null|true|false|[-+.\d]*|\{.*)", re.IGNORECASE
)  # Hydra answers these with a traceback


@dataclass(frozen=True)
class Composition:
    """What Hydra composed for one job.

    Attributes:
        tree: plain values, interpolations resolved.
        given: dotted keys that the user wrote on the command line.
        overrides: the overrides as written, with the task's and Hydra's own apart.
        hydra_tree: Hydra's own settings, kept for the record.
        sweep_dir: directory of this job when it is one point of a sweep.
    """

    tree: dict[str, Any]
    given: frozenset[str]
    overrides: tuple[str, ...]
    hydra_tree: dict[str, Any]
    sweep_dir: Path | None


def open_overrides(arguments: Iterable[str], conf_dir: Path = CONF_DIR) -> list[str]:
    """Let plain overrides reach our own checks: `a.b=1` becomes `++a.b=1`; group choices and flags stay as they are.

    Those of our own launcher are opened, too. Hydra refuses a key that the YAML files do not spell out and asks for
    `+`; here every valid key works as written and a misspelt one is answered with the valid choices. A value that
    Hydra's grammar cannot read, like a path with `~`, parentheses or accents, is taken as the text that it is.

    Raises:
        ConfigError: a group is given something that names no file, or a value is given to no key.
    """
    arguments = list(arguments)
    groups = {path.name for path in conf_dir.iterdir() if path.is_dir()}
    chosen = [argument for argument in arguments if argument.startswith("hydra/launcher=")]
    own_launcher = chosen[-1:] == [f"hydra/launcher={SLURM_LAUNCHER}"]
    opened = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == _DEEPSPEED and not _NO_FILE_NAME.fullmatch(value):
            key, argument = f"{_DEEPSPEED}.config", f"{_DEEPSPEED}.config={value}"  # a path, not a block
        if not key:
            raise ConfigError(f"{argument!r}: an override is written key=value")
        if key in groups and "=" in argument and _NO_FILE_NAME.fullmatch(value):
            choices = suggest(value, (path.stem for path in (conf_dir / key).glob("*.yaml")))
            raise ConfigError(f"{argument}: names no file of conf/{key}; {choices}")
        if key in groups:
            group_files.check(conf_dir, key, value)
        is_hydras = key.startswith("hydra.") and not (own_launcher and key.startswith("hydra.launcher."))
        is_value = _PLAIN_OVERRIDE.match(argument) and key not in groups and not is_hydras
        if is_hydras and _PLAIN_OVERRIDE.match(argument):
            argument = _readable(key, value)
        opened.append(_readable(f"++{key}", value) if is_value else argument)
        if own_launcher and key.startswith("hydra.launcher"):
            _refuse_as_launcher(opened[-1])
    return opened


def _refuse_as_launcher(override: str) -> None:
    """Refuse what Hydra answers with a traceback, or without a remedy."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if parsed.key_or_group == "hydra.launcher" and not isinstance(parsed.value(), dict):
        raise ConfigError(f"{override}: a block of keys; did you mean hydra/launcher={SLURM_LAUNCHER}?")
    if parsed.key_or_group == "hydra.launcher._target_":
        raise ConfigError(f"{override.lstrip('+')}: what starts the jobs is chosen with hydra/launcher=NAME")
    if parsed.key_or_group == "hydra.launcher.additional_parameters" and isinstance(parsed.value(), list):
        raise ConfigError(
            f"{override.lstrip('+')}: a block of keys is expected here, like {{mail-type: END}}"
        )
    if parsed.is_sweep_override():
        raise ConfigError(
            f"{override.lstrip('+')}: all points of a sweep share the launcher's settings; launch once for each "
            "value (a text with commas is written in quotes: 'KEY=\"a,b\"')"
        )


def _readable(key: str, value: str) -> str:
    try:
        OverridesParser.create().parse_overrides([f"{key}={value}"])
    except OverrideParseException:
        escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
        return f"{key}='{escaped}'"
    return f"{key}={value}"


def collect(config: DictConfig) -> Composition:
    """Resolve what Hydra composed and note what the user asked for.

    Raises:
        ConfigError: an interpolation cannot be resolved or a mandatory value is missing.
    """
    settings = HydraConfig.get()
    try:
        tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        emptied = _NO_BLOCK.search(reason)
        if emptied:
            raise ConfigError(
                f"{emptied[1]}: a block of keys is expected here, which {error.full_key} reads"
            ) from None
        raise ConfigError(f"{error.full_key or 'config'}: {reason}") from None
    assert isinstance(tree, dict)
    overrides = tuple(settings.overrides.task)
    in_sweep = settings.mode == RunMode.MULTIRUN
    hydra_tree = OmegaConf.to_container(OmegaConf.create({"hydra": settings}), resolve=False)
    assert isinstance(hydra_tree, dict)
    return Composition(
        tree={str(key): value for key, value in tree.items()},
        given=_with_what_a_file_sets(frozenset(_given_keys(overrides))),
        overrides=tuple(entry.removeprefix("++") for entry in overrides),
        hydra_tree={str(key): value for key, value in hydra_tree.items()},
        sweep_dir=Path(settings.runtime.output_dir) if in_sweep else None,
    )


def _given_keys(overrides: Iterable[str]) -> Iterator[str]:
    """Yield the dotted keys that overrides set; a block `a={b:1,c:2}` sets a.b and a.c, the rest of `a` stays."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        yield from _leaves(override.key_or_group, override.value())


def _with_what_a_file_sets(given: frozenset[str]) -> frozenset[str]:
    """Add the block that a DeepSpeed JSON fills."""
    return given | {_DEEPSPEED} if f"{_DEEPSPEED}.config" in given else given


def _leaves(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value and key not in _ONE_VALUE:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


def settle(composition: Composition) -> Config:
    """Check the tree against the schema and settle what depends on what the user gave.

    Aliases become one value, paths become absolute, a name that is taken for granted is filled in.

    Raises:
        ConfigError: an unknown or wrong key, or two keys that contradict each other.
    """
    config = parse(composition.tree)
    trainer = config.trainer
    lightning = trainer.trainer.model_copy(
        update=_absolute_paths(trainer.trainer, ("ckpt_dir", "profiler_dir"))
    )
    trainer = trainer.model_copy(
        update={
            "deterministic": _settle_determinism(config, composition.given),
            "deepspeed": deepspeed_json.resolve(
                trainer.deepspeed, shipped_trainer()["deepspeed"], composition.given
            ),
            "trainer": lightning,
        }
    )
    eval_dataset = config.data.eval_dataset
    eval_dataset = eval_dataset.model_copy(update=_absolute_paths(eval_dataset, ("root",)))
    data = config.data.model_copy(
        update=_absolute_paths(config.data, ("root", "cache_dir", "scratch_dir"))
        | {"eval_dataset": eval_dataset}
    )
    names = ("dir", "init_from") if config.run.resume in RESUME_WORDS else ("dir", "init_from", "resume")
    run = config.run.model_copy(update=_absolute_paths(config.run, names))
    container = config.container.model_copy(update=_absolute_paths(config.container, ("image",)))
    return config.model_copy(update={"trainer": trainer, "data": data, "run": run, "container": container})


def _absolute_paths(section: Any, names: Iterable[str]) -> dict[str, str]:
    paths = {name: getattr(section, name) for name in names}
    return {name: str(Path(path).expanduser().absolute()) for name, path in paths.items() if path is not None}


def _settle_determinism(config: Config, given: frozenset[str]) -> bool:
    owner, alias = config.trainer.deterministic, config.trainer.trainer.deterministic
    shipped = shipped_trainer()["deterministic"]
    owner_given = "trainer.deterministic" in given or owner != shipped
    if alias is not None and owner_given and alias != owner:
        raise ConfigError(
            f"trainer.deterministic={owner} contradicts its alias trainer.trainer.deterministic={alias}; "
            "valid: give one of them, or the same value (true, false) to both"
        )
    settled = owner if alias is None else alias
    if config.trainer.trainer.strict_deterministic and not settled:
        name = "trainer.deterministic" if alias is None else "trainer.trainer.deterministic"
        raise ConfigError(
            f"trainer.trainer.strict_deterministic=true contradicts {name}=false; "
            f"valid: {name}=true, or strict_deterministic=false"
        )
    return settled


def shipped_trainer() -> dict[str, Any]:
    """Return `conf/trainer/default.yaml` as it is shipped, to tell inherited values from those that a user gave."""
    return deepcopy(_shipped_trainer())


@cache
def _shipped_trainer() -> dict[str, Any]:  # every point of a sweep asks several times
    tree = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "trainer" / "default.yaml"), resolve=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def inherited_keys(
    block: Mapping[str, Any], shipped: Mapping[str, Any], where: str, given: frozenset[str]
) -> set[str]:
    """Return the `config` keys of a `{type, config}` block that were written for another type.

    A key is inherited when the user did not write it and either changed the type on the command line or left the
    shipped value of another type in place.
    """
    config, default = block.get("config") or {}, shipped.get("config") or {}
    type_given = f"{where}.type" in given
    other_type = block.get("type") != shipped.get("type")
    return {
        key
        for key, value in config.items()
        if f"{where}.config.{key}" not in given
        and (type_given or (other_type and key in default and default[key] == value))
    }


def dump(config: Config, path: Path) -> None:
    """Write the tree as YAML, durably enough to start every later job from it."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(config.model_dump())))


def read(path: Path) -> Config:
    """Read a tree written by `dump`.

    Raises:
        ConfigError: the file is missing, damaged, or does not fit this version's schema.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; a run directory holds the config.yaml of its run")
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a configuration ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a list, not the configuration of a run")
    older_runs.complete(tree, CONF_DIR, shipped_trainer())
    try:
        return parse({str(key): value for key, value in tree.items()})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None

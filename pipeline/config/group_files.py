"""A look at the YAML files that a user writes and chooses: Hydra answers a broken one with a traceback."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.config.site_schema import SiteSettings
from pipeline.errors import ConfigError


def check(conf_dir: Path, group: str, choice: str) -> None:
    """Refuse files of a group that are no YAML, and a site that leaves out keys.

    Args:
        conf_dir: folder of the groups.
        group: folder in it.
        choice: what was asked for: a name, or several with commas between them. Names of no file are Hydra's matter.

    Raises:
        ConfigError: with the file and the remedy.
    """
    for path in _files(conf_dir / group, choice):
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(
                f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); mend it"
            ) from None
        if group == "site":
            _check_site(path, tree)


def _files(folder: Path, choice: str) -> Iterator[Path]:
    names = (name.strip().removesuffix(".yaml") for name in choice.split(","))
    yield from (path for path in (folder / f"{name}.yaml" for name in names) if path.is_file())


def _check_site(path: Path, tree: object) -> None:
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{path}: a block of keys is expected here, like in conf/site/example.yaml")
    given = tree or {}
    missing = [name for name in SiteSettings.model_fields if name not in given]
    if missing and "defaults" not in given:
        raise ConfigError(
            f"{path}: has no {', '.join(missing)}; add what is missing (conf/site/example.yaml explains it), or begin "
            "the file with the line `defaults: [none]`, which takes it from conf/site/none.yaml"
        )

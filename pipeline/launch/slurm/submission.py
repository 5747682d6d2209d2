"""The composed configuration of a job, stored at submission: its attempts start from it, never from conf/ again."""

from pathlib import Path

import yaml
from omegaconf import OmegaConf

from pipeline.config import compose
from pipeline.config.atomic import write_text
from pipeline.config.compose import Composition
from pipeline.errors import LaunchError

_FILE = "submission.yaml"
_KEYS = {"tree", "given", "overrides", "hydra_tree", "sweep_dir"}


def stored_at(run_dir: Path) -> Path:
    """Return the file that a run's composed configuration is stored in."""
    return run_dir / _FILE


def write(run_dir: Path, composition: Composition) -> None:
    """Store what a job is to train; an earlier submission to this directory is replaced.

    Paths become absolute and a DeepSpeed JSON is taken up, so that a job needs neither the working directory of its
    submission nor any file that may be edited meanwhile.

    Args:
        run_dir: directory of the run; made where it is not there yet.
        composition: what Hydra composed.

    Raises:
        ConfigError: the configuration is wrong, or the directory cannot be made.
    """
    record = {
        "tree": compose.settle(composition).model_dump(),
        "given": sorted(composition.given),
        "overrides": list(composition.overrides),
        "hydra_tree": OmegaConf.to_container(
            OmegaConf.create(composition.hydra_tree), resolve=False, enum_to_str=True
        ),
        "sweep_dir": None if composition.sweep_dir is None else str(composition.sweep_dir.absolute()),
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    # not as OmegaConf writes it: Hydra's own settings hold ${...} that nothing is to resolve
    write_text(stored_at(run_dir), yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def read(run_dir: Path) -> Composition:
    """Return what `write` has stored.

    Raises:
        LaunchError: there is none, or it is damaged.
    """
    path = stored_at(run_dir)
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LaunchError(f"{path}: no such file; a job is submitted with it: submit the run again") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LaunchError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); submit the run again"
        ) from None
    if not isinstance(record, dict) or record.keys() != _KEYS:
        raise LaunchError(f"{path}: is not what a submission stores; submit the run again")
    return Composition(
        tree=record["tree"],
        given=frozenset(record["given"]),
        overrides=tuple(record["overrides"]),
        hydra_tree=record["hydra_tree"],
        sweep_dir=None if record["sweep_dir"] is None else Path(record["sweep_dir"]),
    )

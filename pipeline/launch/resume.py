"""Continuing a run: its own configuration, and the few changes that leave it the same run."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config import compose
from pipeline.config.schema import Config
from pipeline.errors import ConfigError

_log = logging.getLogger(__name__)
_CHANGES = "changes.yaml"

# What a resumed run may change: its horizon, its hardware and what it logs. The rest is the run's identity.
_CHANGEABLE = re.compile(
    r"trainer\.(num_gpus|num_processes|num_nodes|strategy|logger|wandb\.\w+)"
    r"|data\.\w+_dataloader\.(num_workers|prefetch_factor|persistent_workers|pin_memory)"
    r"|trainer\.trainer\.(max_\w+|min_\w+|log_\w+|num_demos|demo_\w+|save_\w+|profile|profiler_dir|enable_\w+)"
)


def load(run_dir: Path) -> Config:
    """Return the configuration of a run as it is continued: config.yaml with the changes of earlier resumes.

    The directory is the run, wherever it was moved or copied to.

    Raises:
        ConfigError: no run is there, or its checkpoints lie elsewhere and belong to the run it was copied from.
    """
    stored = compose.read(run_dir / "config.yaml")
    origin = Path(str(stored.run.dir))
    if stored.trainer.trainer.ckpt_dir is not None and origin != run_dir and origin.exists():
        raise ConfigError(
            f"run.resume={run_dir}: a copy of {origin}, whose checkpoints are in "
            f"trainer.trainer.ckpt_dir={stored.trainer.trainer.ckpt_dir}; resume {origin}, or use run.init_from"
        )
    tree = stored.model_dump()
    tree["run"]["dir"] = str(run_dir)
    for key, value in _remembered(run_dir).items():
        _set(tree, key, value)
    return compose.parse(tree)


def change(run_dir: Path, wanted: Config, given: Iterable[str]) -> tuple[Config, dict[str, Any]]:
    """Apply the command line to the run's own configuration.

    Args:
        run_dir: the run.
        wanted: what the command line composed.
        given: dotted keys that the user wrote.

    Returns:
        The configuration to go on with, and every change since the run began.

    Raises:
        ConfigError: a key that would make it another run.
    """
    if run_dir.suffix == ".ckpt":  # one of the run's checkpoints stands for the run
        run_dir = run_dir.parent.parent
    config, changes = load(run_dir), _remembered(run_dir)
    tree, source = config.model_dump(), wanted.model_dump()
    for key in sorted(set(given) - {"run.resume"}):
        if not _CHANGEABLE.fullmatch(key):
            raise ConfigError(
                f"{key}: cannot change in run.resume={run_dir}; a resumed run keeps its model, data, losses and seed. "
                "Valid: horizon (max_epochs, max_steps), hardware, logging; run.init_from starts a new run"
            )
        old, new = _get(tree, key), _get(source, key)
        if old != new:
            _log.info("resume: %s was %r, now %r", key, old, new)
            _set(tree, key, new)
            changes[key] = new
    tree["run"]["resume"] = str(run_dir)
    return compose.parse(tree), changes


def remember(run_dir: Path, changes: dict[str, Any]) -> None:
    """Keep the changes for the next resume; config.yaml stays as it was written."""
    if changes:
        (run_dir / _CHANGES).write_text(OmegaConf.to_yaml(changes), encoding="utf-8")


def _remembered(run_dir: Path) -> dict[str, Any]:
    path = run_dir / _CHANGES
    stored = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    assert isinstance(stored, dict)
    return {str(key): value for key, value in stored.items()}


def _get(tree: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for part in parents:
        tree = tree[part]
    tree[leaf] = value

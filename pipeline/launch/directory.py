"""The run directory: identity of a run, and its records."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config import compose
from pipeline.config.atomic import write_text
from pipeline.config.compose import Composition
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch import lock
from pipeline.launch.provenance import write_provenance


@dataclass(frozen=True)
class RunDirectory:
    """Where one run writes; every path of it in one place."""

    path: Path
    checkpoints: Path
    profiler: Path

    @classmethod
    def of(cls, config: Config) -> "RunDirectory":
        """Return the directory of a settled configuration."""
        assert config.run.dir is not None
        path, lightning = Path(config.run.dir), config.trainer.trainer
        return cls(
            path=path,
            checkpoints=Path(lightning.ckpt_dir) if lightning.ckpt_dir else path / "checkpoints",
            profiler=Path(lightning.profiler_dir) if lightning.profiler_dir else path / "profiler",
        )

    @property
    def config_file(self) -> Path:
        """The composed configuration, written once."""
        return self.path / "config.yaml"

    @property
    def marker(self) -> Path:
        """Says that checkpoints were saved; apart from them, so that it stays when they are gone."""
        return self.path / ".has_checkpoints"

    @property
    def media(self) -> Path:
        """Validation demos."""
        return self.path / "media"

    def log_file(self, rank: int) -> Path:
        """Log of one rank."""
        return self.path / "logs" / f"rank-{rank}.log"

    def locked(self, patience_s: float = 0.0) -> AbstractContextManager[int]:
        """Hold the run's exclusive lock; gives its descriptor, for the other processes of this run.

        Args:
            patience_s: how long to wait for a living process that has it.

        Raises:
            LaunchError: another process trains in this directory.
        """
        return lock.hold(self.path, patience_s)


def runs_root(name: str) -> Path:
    """Return the folder of all runs of a name."""
    return Path(os.environ.get("EULER_RUNS") or "runs").expanduser().absolute() / name


def claim(config: Config, sweep_dir: Path | None) -> Config:
    """Make the directory of a new run, and return the configuration with `run.dir` settled.

    Raises:
        ConfigError: `run.dir` or `ckpt_dir` holds another run, or cannot be made.
    """
    path = chosen_directory(config, sweep_dir)
    if path is None:
        path = _make_unique(runs_root(config.run.name))
    else:
        _refuse_a_run(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"run.dir={path}: cannot be made ({error.strerror}); choose another folder"
            ) from None
    settled = {"dir": str(path), "resume": "never"}
    config = config.model_copy(update={"run": config.run.model_copy(update=settled)})
    _claim_checkpoints(RunDirectory.of(config))
    return config


def chosen_directory(config: Config, sweep_dir: Path | None) -> Path | None:
    """Return the directory that the user or a sweep has chosen, None where a fresh one is to be made."""
    if config.run.dir is not None:
        return Path(config.run.dir)
    return None if sweep_dir is None else sweep_dir.absolute()


def write_records(config: Config, composition: Composition) -> None:
    """Write what a run is made of; call it with the lock held. `config.yaml` comes last: with it the run exists.

    Raises:
        ConfigError: another process has begun a run in this directory, or with this `ckpt_dir`.
    """
    run = RunDirectory.of(config)
    _refuse_a_run(run.path)
    if run.checkpoints.parent == run.path:
        _write_records(config, composition, run)
        return
    with _hold_checkpoints(run):
        _claim_checkpoints(run)  # again: of two runs that begin at one instant, the second sees the first
        _write_records(config, composition, run)


def _write_records(config: Config, composition: Composition, run: RunDirectory) -> None:
    hydra_dir = run.path / ".hydra"
    hydra_dir.mkdir(exist_ok=True)  # a run that was killed before its config.yaml leaves one
    write_text(hydra_dir / "overrides.yaml", OmegaConf.to_yaml(list(composition.overrides)))
    write_text(hydra_dir / "hydra.yaml", OmegaConf.to_yaml(composition.hydra_tree))
    compose.dump(config, hydra_dir / "config.yaml")
    outside = [run.checkpoints] if run.checkpoints.parent != run.path else []
    for folder in outside:
        compose.dump(config, folder / "config.yaml")
    write_provenance(
        (*outside, run.path), hydra_dir / "config.yaml", config.trainer.seed, composition.overrides
    )
    compose.dump(config, run.config_file)


def _refuse_a_run(path: Path) -> None:
    if (path / "config.yaml").exists():
        raise ConfigError(
            f"run.dir={path}: this directory already holds a run; run.resume={path} continues it, "
            "leaving run.dir out starts a fresh one"
        )


def _make_unique(root: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in count(1):
        path = root / (stamp if attempt == 1 else f"{stamp}_{attempt}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:  # another run began in the same second
            continue
        except OSError as error:
            raise ConfigError(
                f"run.dir={path}: cannot be made ({error.strerror}); set EULER_RUNS or run.dir"
            ) from None
        return path
    raise AssertionError("unreachable")


@contextmanager
def _hold_checkpoints(run: RunDirectory) -> Iterator[None]:
    """Keep other runs from claiming a `ckpt_dir`."""
    with ExitStack() as held:
        try:
            held.enter_context(lock.hold(run.checkpoints))
        except LaunchError:
            raise ConfigError(
                f"trainer.trainer.ckpt_dir={run.checkpoints}: another run is being begun there, or it cannot be "
                "written; two runs never share one: choose an empty folder"
            ) from None
        yield


def _claim_checkpoints(run: RunDirectory) -> None:
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    if run.checkpoints.parent == run.path:
        return
    record = run.checkpoints / "config.yaml"
    owner = str(compose.read(record).run.dir) if record.exists() else "another run"
    # a run that was killed before its own config.yaml leaves a record here, and never came to be
    if any(run.checkpoints.glob("*.ckpt")) or (Path(owner) / "config.yaml").exists():
        raise ConfigError(
            f"trainer.trainer.ckpt_dir={run.checkpoints}: holds the checkpoints of {owner}; two runs never share one: "
            "choose an empty folder, or run.resume to continue that run"
        )

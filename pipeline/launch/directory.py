"""The run directory: identity of a run, its records, and the lock that keeps two processes out of one run."""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from omegaconf import OmegaConf

from pipeline.config import compose
from pipeline.config.compose import Composition
from pipeline.config.schema import Config
from pipeline.errors import ConfigError, LaunchError


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
    def media(self) -> Path:
        """Validation demos."""
        return self.path / "media"

    def log_file(self, rank: int) -> Path:
        """Log of one rank."""
        return self.path / "logs" / f"rank-{rank}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's exclusive lock; it is released by the operating system even after a kill.

        Raises:
            LaunchError: another process trains in this directory.
        """
        file = (self.path / ".lock").open("a+", encoding="utf-8")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise LaunchError(
                    f"run.dir={self.path}: another process trains in this directory ({owner}); "
                    "wait for it, stop it, or leave run.dir out for a fresh directory"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield


def create(config: Config, composition: Composition) -> Config:
    """Make the directory of a new run, write its records, and return the configuration with `run.dir` settled.

    Raises:
        ConfigError: `run.dir` or `ckpt_dir` holds another run.
    """
    path = _fresh_directory(config, composition)
    config = config.model_copy(
        update={"run": config.run.model_copy(update={"dir": str(path), "resume": None})}
    )
    run = RunDirectory.of(config)
    _claim_checkpoints(config, run)
    hydra_dir = path / ".hydra"
    hydra_dir.mkdir(exist_ok=True)  # a run that was killed before its config.yaml leaves one
    (hydra_dir / "overrides.yaml").write_text(
        OmegaConf.to_yaml(list(composition.overrides)), encoding="utf-8"
    )
    (hydra_dir / "hydra.yaml").write_text(OmegaConf.to_yaml(composition.hydra_tree), encoding="utf-8")
    compose.dump(config, run.config_file)
    shutil.copy(run.config_file, hydra_dir / "config.yaml")
    if run.checkpoints.parent != path:
        shutil.copy(run.config_file, run.checkpoints / "config.yaml")
    return config


def _fresh_directory(config: Config, composition: Composition) -> Path:
    if config.run.dir is not None or composition.sweep_dir is not None:
        path = (
            Path(config.run.dir)
            if config.run.dir is not None
            else Path(str(composition.sweep_dir)).absolute()
        )
        if (path / "config.yaml").exists():
            raise ConfigError(
                f"run.dir={path}: this directory already holds a run; run.resume={path} continues it, "
                "leaving run.dir out starts a fresh one"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"run.dir={path}: cannot be made ({error.strerror}); choose another folder"
            ) from None
        return path
    root = Path(os.environ.get("EULER_RUNS") or "runs").expanduser().absolute() / config.run.name
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


def _claim_checkpoints(config: Config, run: RunDirectory) -> None:
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    other = run.checkpoints / "config.yaml"
    if run.checkpoints.parent != run.path and (other.exists() or any(run.checkpoints.glob("*.ckpt"))):
        owner = compose.read(other).run.dir if other.exists() else "another run"
        raise ConfigError(
            f"trainer.trainer.ckpt_dir={run.checkpoints}: holds the checkpoints of {owner}; two runs never share one: "
            "choose an empty folder, or run.resume to continue that run"
        )

"""The first steps of a run again, from its own configuration, in a temporary directory."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import compose
from pipeline.config.schema import Config
from pipeline.errors import LaunchError
from pipeline.launch import replay
from pipeline.launch.provenance import PROVENANCE, ROOT
from pipeline.launch.reproduction.recorded import Beginning, Losses, read_losses

_PLACES = re.compile(r"data\.(root|cache_dir|eval_dataset\.root|mix\.[^.]+\.root)")
_RANK_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NODE_RANK",
    "LOCAL_WORLD_SIZE",
)
_NUMERIC = re.compile(r"(OMP|MKL|KMP|OPENBLAS|DNNL|ONEDNN|ATEN|CUBLAS|NVIDIA_TF32|TORCH_ALLOW)_\w+")
"""Variables that a repetition takes from the run; others belong to the machine."""

_NEVER = 10**9  # epochs
_TAIL_LINES = 12
# What is written, printed and measured beside training, and changes no loss.
_QUIET = {
    "data.scratch_dir": None,
    "trainer.logger": "none",
    "trainer.wandb.use_wandb": False,
    "trainer.trainer.ckpt_dir": None,
    "trainer.trainer.profile": False,
    "trainer.trainer.profiler_dir": None,
    "trainer.trainer.num_demos": 0,
    "trainer.trainer.num_sanity_val_steps": 0,
    "trainer.trainer.save_top_k": 0,
    "trainer.trainer.save_every_n_epochs": _NEVER,
    "trainer.trainer.save_every_n_minutes": None,
    "trainer.trainer.max_time": None,
    "trainer.trainer.enable_progress_bar": False,
    "trainer.trainer.enable_model_summary": False,
    "trainer.trainer.log_model_structure": False,
}


def configuration(run_dir: Path, beginning: Beginning | None, data_root: Path | None) -> Config:
    """Return the configuration that the first steps of a run were trained with; its data where it is now.

    Args:
        run_dir: the run.
        beginning: of the run, None where it is not recorded.
        data_root: where the data is instead; None as the run says.

    Raises:
        ConfigError: `config.yaml` cannot be read.
    """
    changes: dict[str, Any] = {}
    if beginning is not None:
        newest = beginning.newest.get("changes") or {}
        changes |= beginning.attempt.get("changes") or {}
        changes |= {key: value for key, value in newest.items() if _PLACES.fullmatch(key)}
    if os.environ.get("EULER_CACHE"):  # this machine's
        changes["data.cache_dir"] = str(Path(os.environ["EULER_CACHE"]).expanduser().absolute())
    if data_root is not None:
        changes["data.root"] = str(data_root.expanduser().absolute())
    return _with(compose.read(run_dir / "config.yaml"), changes)


def on_processes(config: Config, attempt: Mapping[str, Any]) -> tuple[Config, str | None]:
    """Return the configuration on as many processes as the run had, all on this machine, and a note if that differs.

    Args:
        config: from `configuration`.
        attempt: the start of the run.
    """
    processes, num_gpus, note = int(attempt["world_size"]), 0, None
    if attempt["gpus"]:
        import torch  # to count devices

        present = torch.cuda.device_count()
        num_gpus = processes if present >= processes else 0
        if not num_gpus:
            note = f"the run used {processes} GPU(s), here are {present}: it is repeated on the CPU"
    changes = {
        "trainer.num_nodes": 1,
        "trainer.num_gpus": num_gpus,
        "trainer.num_processes": 1 if num_gpus else processes,
    }
    if int(attempt.get("num_nodes") or 1) > 1 and note is None:
        note = f"the run used {attempt['num_nodes']} nodes, and is repeated on one"
    return _with(config, changes), note


def repeat(config: Config, attempt: Mapping[str, Any], steps: int, folder: Path) -> Losses:
    """Train the first steps in a new directory and return their losses.

    Args:
        config: from `on_processes`.
        attempt: the start of the run, for what its environment held.
        steps: how many.
        folder: empty, for all that is written.

    Raises:
        LaunchError: the repetition ended with an error; its last lines are in the message.
    """
    run_dir = folder / "run"
    run_dir.mkdir()
    quiet = _with(config, {**_QUIET, "run.dir": str(run_dir), "run.resume": "never"})
    compose.dump(quiet, run_dir / "config.yaml")
    (run_dir / PROVENANCE).write_text("{}\n", encoding="utf-8")
    replay.mark(run_dir, steps)
    command = [sys.executable, "-m", "pipeline.launch.replay", str(run_dir), str(os.getpid())]
    log = folder / "output.log"
    with log.open("wb") as output:
        ended = subprocess.run(
            command,
            env=_environment(attempt),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    losses = read_losses(run_dir) or []
    if len(losses) < steps:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        told = "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
        raise LaunchError(
            f"the repetition ended with code {ended.returncode} after {len(losses)} of {steps} steps:\n{told}"
        )
    return losses[:steps]


def _environment(attempt: Mapping[str, Any]) -> dict[str, str]:
    """Return this environment with the run's own threads and numeric libraries' settings."""
    dropped = {name for name in os.environ if name in _RANK_VARIABLES or _NUMERIC.fullmatch(name)}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    then = {
        name: value for name, value in (attempt.get("variables") or {}).items() if _NUMERIC.fullmatch(name)
    }
    paths = [str(ROOT), *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    threads = {"OMP_NUM_THREADS": str(attempt["torch_threads"])}
    return kept | threads | then | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _with(config: Config, changes: Mapping[str, Any]) -> Config:
    tree = config.model_dump()
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        block = tree
        for part in parents:
            block = block[part]
        block[leaf] = value
    return compose.parse(tree)

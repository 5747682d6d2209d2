"""Processes of jobs, as the system knows them."""

import os
from collections import defaultdict
from pathlib import Path

from tests.integration.chaos.processes import send

__all__ = ["below", "is_alive", "named", "open_files", "rank_of", "send", "variables"]
_PROC = Path("/proc")


def _stat(process: int) -> list[str]:
    """Return state, parent, ... of a process; nothing for one that has ended."""
    try:
        text = (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return [] if fields[0] in "ZX" else fields


def is_alive(process: int) -> bool:
    return bool(_stat(process))


def _all() -> list[int]:
    return [int(folder.name) for folder in _PROC.glob("[0-9]*")]


def named(name: str) -> list[int]:
    """Return the living processes of a program."""
    found = []
    for process in _all():
        try:
            is_it = (_PROC / str(process) / "comm").read_text(encoding="utf-8").strip() == name
        except OSError:
            continue
        if is_it and is_alive(process):
            found.append(process)
    return found


def below(processes: list[int]) -> list[int]:
    """Return all descendants of processes."""
    children = defaultdict(list)
    for process in _all():
        if fields := _stat(process):
            children[int(fields[1])].append(process)
    found, wave = [], list(processes)
    while wave:
        wave = [child for process in wave for child in children[process]]
        found += wave
    return found


def open_files(process: int) -> list[str]:
    try:
        return [os.readlink(link) for link in (_PROC / str(process) / "fd").iterdir()]
    except OSError:
        return []


def variables(process: int) -> set[str]:
    """Return the environment that a process was started with, as NAME=VALUE."""
    try:
        text = (_PROC / str(process) / "environ").read_bytes()
    except OSError:
        return set()
    return set(text.decode(errors="replace").split("\0"))


def rank_of(run_dir: Path, rank: int) -> int | None:
    """Return the process of a rank of a run under SLURM, None while it is not there.

    Its data workers are forks that look like it; the rank is the one whose parent is none.
    """
    found = {process for process in _all() if _is_rank(process, run_dir, rank)}
    first = [process for process in found if (fields := _stat(process)) and int(fields[1]) not in found]
    return first[0] if first else None


def _is_rank(process: int, run_dir: Path, rank: int) -> bool:
    try:
        arguments = (_PROC / str(process) / "cmdline").read_bytes().split(b"\0")
        if b"pipeline.launch.slurm.task" not in arguments or str(run_dir).encode() not in arguments:
            return False
    except OSError:
        return False
    # srun has the same words in its command, and the number of the batch script in its environment
    is_task = Path(arguments[0].decode(errors="replace")).name != "srun"
    return is_task and is_alive(process) and f"SLURM_PROCID={rank}" in variables(process)

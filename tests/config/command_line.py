"""`python train.py` as a process of its own, watched from outside."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "deepspeed",
    "torchaudio",
    "torchmetrics",
)
TIMEOUT_S = 120
_IMPORT = re.compile(r"^import time:.*\| +([\w.]+)$")


@dataclass(frozen=True)
class Ended:
    """What a command did.

    Attributes:
        code: exit status.
        output: what it wrote to standard output and error.
        printed: what of it went to standard output.
        heavy: heavy packages that it imported.
        seconds: processor time, which is the wall time of a machine with nothing else to do, or the wall time where
            that is less.
        written: what it left in its working, run and cache folders, by relative path.
    """

    code: int
    output: str
    printed: str
    heavy: tuple[str, ...]
    seconds: float
    written: tuple[str, ...]


def python(
    *arguments: str, home: Path, environment: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> Ended:
    """Runs `python ARGUMENTS` with working, run and cache folders of its own below `home`."""
    cwd = home / "cwd"
    cwd.mkdir(parents=True)
    variables = os.environ | {
        "EULER_RUNS": str(home / "runs"),
        "EULER_CACHE": str(home / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "200",
    }
    variables.pop("EULER_DATA", None)
    command = [sys.executable, "-X", "importtime", *arguments]
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=variables | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        stop = Timer(timeout_s, process.kill)
        stop.start()
        _, status, usage = os.wait4(process.pid, 0)
        stop.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began
        said, heavy = _without_imports(_content(stderr))
        printed = _content(stdout)
    left = (path.relative_to(home).as_posix() for path in home.rglob("*") if path != cwd)
    seconds = min(wall_s, usage.ru_utime + usage.ru_stime)
    return Ended(process.returncode, printed + said, printed, heavy, seconds, tuple(sorted(left)))


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _without_imports(text: str) -> tuple[str, tuple[str, ...]]:
    """Splits what `-X importtime` writes from what the program says; returns the latter and the heavy packages."""
    lines = text.splitlines()
    imported = {found[1].split(".")[0] for line in lines if (found := _IMPORT.match(line))}
    said = [line for line in lines if not line.startswith("import time:")]
    return "\n".join(said), tuple(name for name in HEAVY if name in imported)


def train(
    *arguments: str, home: Path, environment: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> Ended:
    """Runs `python train.py ARGUMENTS`."""
    command = (str(ROOT / "train.py"), *arguments)
    return python(*command, home=home, environment=environment, timeout_s=timeout_s)

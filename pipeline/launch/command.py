"""Commands that a user can type as they are printed, wherever they stand and whichever interpreter they used."""

import os
import shlex
import shutil
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def train_command(*arguments: str) -> str:
    """Return the command that runs `train.py` with arguments."""
    return shlex.join([_python(), _from_here(_ROOT / "train.py"), *arguments])


def module_command(module: str, *arguments: str) -> str:
    """Return the command that runs a module of this project with arguments."""
    return shlex.join([_python(), "-m", module, *arguments])


def _python() -> str:
    """Return `python` where a shell finds this interpreter under that name: an activated environment, a container."""
    found = shutil.which("python")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if same else _from_here(Path(sys.executable))


def _from_here(path: Path) -> str:
    """Return the shorter of the absolute path and the one from the working directory."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # a job outlives the folder that it was submitted from
        return os.fspath(path)
    return str(path.relative_to(here)) if path.is_relative_to(here) else os.fspath(path)

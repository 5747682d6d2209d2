"""A node without SLURM: stand-ins for its commands, which do as a test says and write down what they were asked."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.integration.runs import ROOT

# Each reads what to do from a file of its name: lines of a script, run with the arguments of the command.
_STAND_IN = """#!/bin/bash
echo "{name} $*" >> "$NODE/calls"
[ ! -e "$NODE/{name}.does" ] || . "$NODE/{name}.does"
"""
_COMMANDS = ("srun", "squeue", "scontrol", "sbatch", "scancel", "sacct", "sleep", "date")
_SCRIPT = """#!/bin/bash
set -u
{setup}
export EULER_PYTHON=python EULER_CODE={root} EULER_SCRIPT={script} EULER_COMEBACK={comeback} EULER_MAX_RESTARTS=9
. {root}/slurm/job.sh
live {run}
"""


@dataclass(frozen=True)
class Ended:
    """A batch script that has ended."""

    code: int
    errors: str
    events: list[str]


class BatchNode:
    """Runs batch scripts.

    Args:
        folder: for the stand-ins, the script and the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        (folder / "bin").mkdir()
        for name in _COMMANDS:
            command = folder / "bin" / name
            command.write_text(_STAND_IN.format(name=name))
            command.chmod(0o755)
        self.does("squeue", "echo RUNNING")
        self.does("sbatch", "echo 77")

    def does(self, command: str, lines: str) -> None:
        """Say what a command does."""
        (self.folder / f"{command}.does").write_text(f"{lines}\n")

    def start(self, comeback: str = "requeue", setup: str = "", **variables: str) -> "subprocess.Popen[str]":
        """Start the batch script as SLURM would; `setup` are shell lines of the user."""
        script = self.folder / "script.sh"
        script.write_text(
            _SCRIPT.format(root=ROOT, script=script, comeback=comeback, run=self.run, setup=setup),
            encoding="utf-8",
        )
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "EULER"))}
        environment = clean | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "NODE": str(self.folder),
            "SLURM_JOB_ID": "12",
            "SLURMD_NODENAME": "localhost",
            "SLURM_JOB_NODELIST": "localhost",
            **variables,
        }
        return subprocess.Popen(
            ["bash", str(script)],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def live(self, comeback: str = "requeue", setup: str = "", **variables: str) -> Ended:
        """Run the batch script to its end."""
        process = self.start(comeback, setup, **variables)
        errors = process.communicate(timeout=60)[1]
        return Ended(process.returncode, errors, self.events())

    def events(self) -> list[str]:
        """Return the last column of the history."""
        lines = (self.run / ".job" / "history").read_text().splitlines()
        return [line.split("\t")[3] for line in lines]

    def calls(self, command: str) -> list[str]:
        """Return the arguments of every call of a command."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == command]

    def fails(self, code: int = 1) -> None:
        """Let the training end with a genuine error."""
        failure = '{"job": "12", "code": 3, "reason": "DataError: \\"code\\": 9"}'
        self.does("srun", f"echo '{failure}' > {self.run}/.job/failure; exit {code}")

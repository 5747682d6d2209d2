"""Runs that were submitted to the cluster as a user does it, looked at and struck while they go on."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.chaos.checker import run_differences
from tests.integration.chaos.observer import chaos_observer
from tests.integration.runs import ROOT
from tests.slurm import processes
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.recipes import STEPS

_INSERTED = (Path(__file__).parent / "slowed" / "sitecustomize.py", Path(chaos_observer.__file__))
PAUSE_S = 0.12  # so that steps go on for some seconds


@dataclass(frozen=True)
class Interpreter:
    """The Python of the jobs: this one, with what `slowed/sitecustomize.py` does.

    Attributes:
        folder: where its files lie.
        pause_s: how much longer each step takes.
        is_deaf: whether requests to stop are ignored.
        is_observed: whether every process says what it does, in the folder `stages`.
        program: what all this is added to.
    """

    folder: Path
    pause_s: float = PAUSE_S
    is_deaf: bool = False
    is_observed: bool = False
    program: Path = Path(sys.executable)

    @property
    def flaw(self) -> Path:
        """Return the file that lets the rank that it names raise an error."""
        return self.folder / "flaw"

    @property
    def stages(self) -> Path:
        return self.folder / "stages"

    def write(self) -> Path:
        """Write the program, and return its path."""
        variables = {
            "PYTHONPATH": str(self.folder / "inserted"),
            "EULER_TEST_SLOW": str(self.pause_s),
            "EULER_TEST_DEAF": "1" if self.is_deaf else "",
            "EULER_TEST_RAISE": str(self.flaw),
            "EULER_CHAOS_STAGES": str(self.stages) if self.is_observed else "",
        }
        self.stages.mkdir(parents=True, exist_ok=True)
        (self.folder / "inserted").mkdir(exist_ok=True)
        for file in _INSERTED:  # a copy, as another user may not see this checkout
            shutil.copy(file, self.folder / "inserted")
        lines = [
            "#!/bin/sh",
            f'PYTHONPATH={shlex.quote(variables.pop("PYTHONPATH"))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        ]
        lines += [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        lines += [
            f"export PYTHONPATH {' '.join(variables)}",
            f'exec {shlex.quote(str(self.program))} "$@"',
            "",
        ]
        program = self.folder / "python"
        program.write_text("\n".join(lines), encoding="utf-8")
        program.chmod(0o755)
        return program


@dataclass
class Sweep:
    """Runs of one sweep folder.

    Attributes:
        cluster: where they run.
        folder: for all of it.
        cache: with the audio.
        checkout: what submits.
        user: who submits; None: who runs the tests.
    """

    cluster: Cluster
    folder: Path
    cache: Path
    checkout: Path = ROOT
    user: str | None = None
    interpreter: Interpreter = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.interpreter = Interpreter(self.folder)

    @property
    def home(self) -> Path:
        return self.folder / "sweep"

    def run_dir(self, number: int = 0) -> Path:
        return self.home / str(number)

    def environment(self) -> dict[str, str]:
        own = {"EULER_RUNS": str(self.folder / "runs"), "EULER_CACHE": str(self.cache)}
        return {name: value for name, value in self.cluster.environment.items() if name != "EULER_DATA"} | own

    def arguments(self, *arguments: str, setup: Sequence[str] = ()) -> list[str]:
        """Return the command that submits."""
        lines = ",".join(f"'{line}'" for line in ("export OMP_NUM_THREADS=1", *setup))
        return [
            *(str(self.interpreter.program), str(self.checkout / "train.py")),
            *("-m", "hydra/launcher=submitit_slurm"),
            f"hydra.sweep.dir={self.home}",
            "hydra.launcher.timeout_min=10",
            "hydra.launcher.signal_delay_s=30",
            f"hydra.launcher.setup=[{lines}]",
            f"hydra.launcher.python={self.interpreter.write()}",
            *arguments,
        ]

    def command(
        self, command: Sequence[str], more: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user; return what it printed."""
        environment = self.environment() | dict(more or {})
        if self.user is not None:
            environment |= {"HOME": str(self.folder), "USER": self.user}
        return subprocess.run(
            command,
            cwd=cwd or self.checkout,
            env=environment,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def submit(self, *arguments: str, setup: Sequence[str] = (), cwd: Path | None = None) -> str:
        """Submit runs; return what was said."""
        done = self.command(self.arguments(*arguments, setup=setup), cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def step(self, number: int = 0) -> int:
        """Return the last step in a run's metrics.csv, 0 for none."""
        file = self.run_dir(number) / "metrics.csv"
        if not file.exists():
            return 0
        rows = file.read_text(encoding="utf-8").splitlines()[1:]
        return max((int(row.split(",")[0]) for row in rows if row.split(",")[0].isdecimal()), default=0)

    def wait_for_step(self, step: int, number: int = 0) -> None:
        """Wait until a run has come so far."""
        wait_until(lambda: self.step(number) >= step, f"step {step} of run {number}\n{self.logs()}")

    def wait_for_running(self, jobs: int = 1) -> list[str]:
        """Wait until jobs run; return their names."""
        wait_until(lambda: len(self.cluster.running()) >= jobs, f"{jobs} running")
        return self.cluster.running()

    def kill_rank(self, rank: int, number: int = 0) -> None:
        """Kill a rank of a run with SIGKILL."""
        process = processes.rank_of(self.run_dir(number), rank)
        assert process is not None, f"rank {rank} is not there"
        processes.send(process, signal.SIGKILL)

    def sessions(self, number: int = 0) -> list[int]:
        """Return at which step each attempt has begun to train."""
        file = self.run_dir(number) / "sessions.jsonl"
        if not file.exists():
            return []
        return [json.loads(line)["step"] for line in file.read_text(encoding="utf-8").splitlines()]

    def history(self, number: int = 0) -> list[str]:
        """Return what the jobs of a run have written down of their lives."""
        file = self.run_dir(number) / ".job" / "history"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def saved(self) -> list[int]:
        """Return the steps that were saved at requests to stop."""
        return [int(step) for step in re.findall(r"saved up to step (\d+)", self.logs())]

    def check_nothing_lost(self) -> None:
        """Check that each attempt has begun where the one before had saved.

        One that never trained counts for none, nor does one that found the run at its end, where a request to stop may
        have come in its last step.
        """
        begun, saved = self.sessions(), self.saved()
        expected = [step for step in (0, *saved) if step < STEPS]
        assert [step for step in dict.fromkeys(begun) if step < STEPS] == expected, (begun, saved)

    def logs(self) -> str:
        """Return what all jobs have printed."""
        files = sorted((self.home / "logs").glob("*"))
        return "\n".join(
            f"== {file.name}\n{file.read_text(encoding='utf-8', errors='replace')}" for file in files
        )

    def check_equal(self, reference: Path, number: int = 0) -> None:
        """Check that a run has ended as an uninterrupted one has."""
        found = run_differences(reference, self.run_dir(number))
        assert not found, "\n".join(found[:40])

    def describe(self) -> str:
        """Return what one wants to know of a test that has failed."""
        files = [file for file in sorted(self.home.glob("*/.job/*")) if file.is_file()]
        lives = [f"== {file}\n{file.read_text(encoding='utf-8')}" for file in files]
        return "\n".join([*lives, self.logs()[-12000:], *(str(job) for job in self.cluster.jobs_so_far())])


def give(folder: Path, user: str) -> None:
    """Make a folder and all in it a user's own."""
    subprocess.run(["chown", "-hR", f"{user}:", folder], check=True)
    os.chmod(folder, 0o755)

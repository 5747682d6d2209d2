"""The throw-away cluster, and what happens to jobs on a real one: preemption, death of a node, time limits."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.integration.runs import ROOT
from tests.slurm import processes

PATIENCE_S = 240.0
_POLL_S = 0.15  # asking costs the processors of the training some milliseconds
_SCRIPTS = ROOT / "slurm" / "cluster"


@dataclass(frozen=True)
class Job:
    """What the accounting knows of a job.

    Attributes:
        name: 12, or 12_3 of an array.
        state: one word.
        code: exit code of its script.
        number: of the signal that ended it, 0 for none.
    """

    name: str
    state: str
    code: int
    number: int


def wait_until(what: Callable[[], object], meaning: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it never comes.
    """
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, f"waited {patience_s:g} s in vain: {meaning}"
        time.sleep(_POLL_S)


class Cluster:
    """A cluster of two nodes in a folder.

    Args:
        folder: of its own, reachable for every user.
        port: first of 16 free ones.
        entry: words that start a command on its machines.
    """

    def __init__(self, folder: Path, port: int, entry: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._entry = entry
        self._port = port
        self._conf = folder / "slurm.conf"
        self._last_old_job = 0

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a process that uses the cluster."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))
        }
        return kept | {"SLURM_CONF": str(self._conf)}

    def start(self) -> None:
        subprocess.run(
            [*self._entry, _SCRIPTS / "up.sh", self.folder, str(self._port)],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        subprocess.run([_SCRIPTS / "down.sh", self.folder], check=True, stdout=subprocess.DEVNULL)

    def ask(self, *command: str) -> str:
        """Run a command of SLURM and return what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def begin(self) -> None:
        """Forget the jobs so far, after ending those that are left of a test that failed."""
        for job in self._queued("%A"):
            self.ask("scancel", "--quiet", job)
        self.wait_until_empty()
        self.set_parameter("SlurmctldParameters", "preempt_send_user_signal")
        for node in ("node1", "node2"):
            self.revive(node)
        self._last_old_job = max((int(job) for job in self._known("%A")), default=0)

    def set_parameter(self, key: str, value: str) -> None:
        """Change a line of slurm.conf, if it is another one."""
        text = self._conf.read_text(encoding="utf-8")
        changed, found = re.subn(rf"(?m)^{key}=.*$", f"{key}={value}", text)
        assert found == 1, f"{key} is set once in slurm.conf"
        if changed != text:
            self._conf.write_text(changed, encoding="utf-8")
            self.ask("scontrol", "reconfigure")

    def _queued(self, fields: str) -> list[str]:
        """Return a line for each job that waits, runs, or is about to end."""
        return self.ask("squeue", "--noheader", "--array", f"--format={fields}").splitlines()

    def _known(self, fields: str) -> list[str]:
        return self.ask("squeue", "--noheader", "--array", "--states=all", f"--format={fields}").splitlines()

    def jobs(self) -> list[Job]:
        """Return the jobs since `begin`, in the order of their submission, but for those that preempt others.

        The controller tells the accounting of a job some time after its submission: it waits for that.
        """
        jobs: dict[str, Job] = {}

        def are_accounted() -> bool:
            submitted = self._submitted()
            jobs.update(self._accounted(submitted))
            return set(submitted) <= set(jobs)

        wait_until(are_accounted, "the jobs in the accounting", 120)
        return _in_order(jobs.values())

    def jobs_so_far(self) -> list[Job]:
        """Return those of `jobs` that the accounting knows by now."""
        return _in_order(self._accounted(self._submitted()).values())

    def _submitted(self) -> dict[str, str]:
        """Return the states of the jobs, as the controller knows them, by their plain numbers."""
        states = {}
        for line in self._known("%A|%T|%P"):
            name, state, partition = line.split("|")
            if int(name) > self._last_old_job and partition != "high":
                states[name] = state
        return states

    def _accounted(self, names: Iterable[str]) -> dict[str, Job]:
        """Return what the accounting knows of jobs, by their plain numbers."""
        if not (wanted := ",".join(names)):
            return {}
        fields = "--format=JobIDRaw,JobID,State,ExitCode"
        jobs = {}
        table = self.ask("sacct", "-X", "--noheader", "--parsable2", fields, f"--jobs={wanted}")
        for line in table.splitlines():
            number, name, state, code = line.split("|")
            jobs[number] = Job(name, state.split()[0], int(code.split(":")[0]), int(code.split(":")[1]))
        return jobs

    def running(self) -> list[str]:
        """Return the names of the jobs that run now and preempt nobody."""
        lines = [line.split("|") for line in self._queued("%i|%T|%P")]
        return [name for name, state, partition in lines if state == "RUNNING" and partition != "high"]

    def wait_until_empty(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until nothing waits or runs."""
        wait_until(lambda: not self._queued("%i %T %r"), "an empty queue", patience_s)

    def end_of_jobs(self, patience_s: float = PATIENCE_S) -> list[Job]:
        """Wait until all jobs have ended, and the accounting knows it."""
        self.wait_until_empty(patience_s)
        jobs: dict[str, Job] = {}

        def is_told() -> bool:
            submitted = self._submitted()
            jobs.update(self._accounted(submitted))
            return submitted.items() <= {name: job.state for name, job in jobs.items()}.items()

        wait_until(is_told, "the end in the accounting", 120)
        return _in_order(jobs.values())

    def restarts(self, job: str) -> int:
        """Return how often a job was requeued."""
        found = re.search(r"Restarts=(\d+)", self.ask("scontrol", "show", "job", job))
        assert found is not None
        return int(found[1])

    def occupy(self, seconds: float = 2.0) -> str:
        """Submit a job that needs all nodes and goes before all others; return its number."""
        options = ("--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null")
        return self.ask("sbatch", *options, f"--wrap=sleep {seconds:g}")

    def preempt(self) -> None:
        """Take all nodes from the jobs that run, for two seconds."""
        name = self.occupy()
        state = ("squeue", "--noheader", "--states=all", f"--jobs={name}", "--format=%T")
        wait_until(lambda: self.ask(*state) == "COMPLETED", "the other job's end")

    def kill(self, node: str) -> None:
        """Let a node die: its daemon, and all that it has started."""
        daemon = int((self.folder / f"slurmd.{node}.pid").read_text(encoding="utf-8"))
        steps = [process for process in processes.named("slurmstepd") if self._is_on(process, node)]
        doomed = [daemon, *steps, *processes.below(steps)]
        for process in doomed:
            processes.send(process, signal.SIGKILL)
        wait_until(lambda: "down" in self._state_of(node), f"the death of {node}")

    def _is_on(self, process: int, node: str) -> bool:
        places = (f"{self.folder}/spool.{node}", f"{self.folder}/slurmd.{node}.log")
        return any(file.startswith(places) for file in processes.open_files(process))

    def _state_of(self, node: str) -> str:
        return self.ask("sinfo", "--noheader", "--partition=high", f"--nodes={node}", "--format=%T")

    def revive(self, node: str) -> None:
        """Start a node's daemon again, if it has died."""
        pid_file = self.folder / f"slurmd.{node}.pid"
        if not processes.is_alive(int(pid_file.read_text(encoding="utf-8"))):
            self.ask(*self._entry, "slurmd", "-f", str(self._conf), "-N", node)
        wait_until(lambda: self._state_of(node) in ("idle", "allocated", "mixed"), f"{node} is back")


def _in_order(jobs: Iterable[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: [int(number) for number in re.findall(r"\d+", job.name)])


def free_port(first: int) -> int:
    """Return the first of 16 free ports."""
    for port in range(first, 30000, 16):
        if all(_is_free(port + offset) for offset in range(16)):
            return port
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

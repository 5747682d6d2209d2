"""Runs and sweeps as they lie on disk, and a SLURM that answers as a real one has answered."""

import json
from pathlib import Path

from pipeline.launch.slurm.sweep import Sweep, Wanted

HORIZON = {"max_epochs": 8, "max_steps": -1}


class Answers:
    """Programs with the names of SLURM's commands, first on the PATH, that answer as they are told.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, command: str, output: str, code: int = 0, errors: str = "") -> None:
        """Have a command print something from now on."""
        program, text = self.folder / command, self.folder / f"{command}.txt"
        text.write_text(output, encoding="utf-8")
        program.write_text(
            f'#!/bin/sh\necho "$0 $*" >> {self.folder}/asked\ncat {text}\necho "{errors}" >&2\nexit {code}\n',
            encoding="utf-8",
        )
        program.chmod(0o755)

    def jobs(self, *lines: str) -> None:
        """Have queue and accounting tell jobs: `12_3 RUNNING`, `12_4 PENDING Priority`, `12_5 FAILED 3:0`, ..."""
        queue, accounts = [], []
        for line in lines:
            name, state, word = (*line.split(), "None")[:3]
            is_code = ":" in word
            queue.append(f"{name}|{state}|{'None' if is_code else word}")
            accounts.append(f"{name}|{state}|{word if is_code else '0:0'}")
        self.set("squeue", "\n".join(queue) + "\n")
        self.set("sacct", "\n".join(accounts) + "\n")

    def jobs_in_turn(self, *lines: str) -> None:
        """Have the queue tell one line after the other, a line a question, the last one for ever; `` is an empty queue.

        At `down` the controller does not answer. The accounting knows nothing until the last one.
        """
        self.set("squeue", "")
        folder = self.folder / "turns"
        folder.mkdir()
        for number, line in enumerate(lines):
            is_told = line not in ("", "down")
            name, state, word = (*line.split(), "None")[:3] if is_told else ("", "", "")
            text = f"{name}|{state}|{word}\n" if is_told else line
            (folder / f"{number}.squeue").write_text(text, encoding="utf-8")
            last = f"{name}|{state}|{word if ':' in word else '0:0'}\n" if number == len(lines) - 1 else ""
            (folder / f"{number}.sacct").write_text(last, encoding="utf-8")
        for command in ("squeue", "sacct"):
            (self.folder / command).write_text(
                f"#!/bin/sh\nturn=$(cat {folder}/{command} 2> {folder}/none || echo 0)\n"
                f"cat {folder}/$turn.{command}\n"
                f"[ $turn -ge {len(lines) - 1} ] || echo $((turn + 1)) > {folder}/{command}\n"
                f'[ "$(cat {folder}/$turn.{command})" != down ]\n',
                encoding="utf-8",
            )
            (self.folder / command).chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """The command lines so far, without folders."""
        path = self.folder / "asked"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line.removeprefix(f"{self.folder}/") for line in lines]


def want(seed: int, *more: str, directory: Path | None = None, **horizon: int) -> Wanted:
    """A point whose identity is its seed."""
    return Wanted((f"trainer.seed={seed}", *more), f"identity of {seed}", HORIZON | horizon, directory)


def submit(home: Path, *wanted: Wanted, array: int = 12, log_folder: str = "logs") -> Sweep:
    """Record an array of jobs for wanted points, as a launch does."""
    with Sweep.held(home) as sweep:
        script = home / "scripts" / "0.sh"
        script.parent.mkdir(exist_ok=True)
        planned = sweep.plan(wanted)
        runs = " ".join(str(plan.directory) for plan in planned)
        script.write_text(f"#!/bin/bash\nruns=({runs})\n", encoding="utf-8")
        for task, plan in enumerate(planned):
            plan.directory.mkdir(parents=True, exist_ok=True)
            job = f"{array}_{task}"
            sweep.record(plan, job, script, str(home / log_folder / f"{job}.log"))
        sweep.save()
    return sweep


def progress(run_dir: Path, state: str = "running", step: int = 40, epoch: int = 4, **more: object) -> None:
    """Write a run's progress.json."""
    record = {
        "state": state,
        "step": step,
        "epoch": epoch,
        "horizon": HORIZON,
        "steps": 80,
        "steps_per_s": 2.5,
    }
    record |= {"monitor": "val/sisdr", "best": 3.25, "updated": "2026-01-01T00:00:00+00:00"} | more
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "progress.json").write_text(json.dumps(record), encoding="utf-8")


def finished(run_dir: Path) -> None:
    """Write the progress.json of a run at the end of its horizon."""
    progress(run_dir, "finished", step=80, epoch=8)


def history(run_dir: Path, *lines: str) -> None:
    """Write a run's history from lines like `12_0 1 requeued saved, to go on`."""
    (run_dir / ".job").mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(("2026-01-01T00:00:00+00:00", *line.split(maxsplit=2))) + "\n" for line in lines)
    (run_dir / ".job" / "history").write_text(text, encoding="utf-8")


def failure(run_dir: Path, job: str, code: int, reason: str) -> None:
    """Write the record of a genuine error."""
    (run_dir / ".job").mkdir(parents=True, exist_ok=True)
    record = {"job": job, "restart": 0, "rank": 0, "host": "node1", "code": code, "reason": reason}
    (run_dir / ".job" / "failure").write_text(json.dumps(record), encoding="utf-8")

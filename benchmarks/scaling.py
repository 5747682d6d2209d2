"""What more GPUs bring: weak scaling of DDP and ZeRO-2 with the full-size complex recipe.

    python benchmarks/scaling.py                        # 1, 2, 4, ... GPUs, as many as there are
    python benchmarks/scaling.py --cpu                  # a small model on 1 and 2 processes: to try it, no claim

Every combination of strategy and number of GPUs is a set of processes of its own, which all stay; they train in turn,
a window each, round by round, while the others wait, so that a drift of the machine hits all alike. The batch of a GPU
is fixed and lies on it already: nothing is loaded. Efficiency is the median of steps/s over that of the same strategy
on one GPU. The claim is, at the largest number of GPUs, at least 95 % for DDP and 90 % for ZeRO-2.
"""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.scaling_rank import WINDOW, run_rank

CLAIMS = {"ddp": 0.95, "deepspeed": 0.90}
ALONE = "auto"
WARM_UP_STEPS = {True: 30, False: 2}  # by use of GPUs
SETTLE_STEPS = {True: 10, False: 1}
LIMIT_S = 600.0


@dataclass
class Group:
    """The processes of one strategy on a number of GPUs, or CPU processes.

    Attributes:
        strategy: `trainer.strategy`.
        count: processes.
        rates: steps per second, of each window.
        ranks: the processes.
    """

    strategy: str
    count: int
    rates: list[float] = field(default_factory=list)
    ranks: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`ddp x 2`."""
        return f"{self.strategy} x {self.count}"

    def start(self, folder: Path, arguments: argparse.Namespace) -> None:
        """Start every rank; it warms up."""
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if arguments.cpu else {})
        if self.strategy != ALONE:
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
            environment["WORLD_SIZE"] = str(self.count)
        for rank in range(self.count):
            own = folder / f"{self.strategy}-{self.count}-{rank}"
            own.mkdir(parents=True)
            place = {} if self.strategy == ALONE else {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [
                sys.executable,
                __file__,
                "--rank",
                str(own / "run"),
                "--of",
                self.strategy,
                str(self.count),
            ]
            command += ["--batch-size", str(arguments.batch_size), *(["--cpu"] if arguments.cpu else [])]
            with open(own / "log", "w", encoding="utf-8") as log:
                self.ranks.append(
                    subprocess.Popen(
                        command,
                        env=environment | place,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                    )
                )

    def measure(self, settle: int, counted: int, folder: Path) -> None:
        """Train one window, the others waiting."""
        for process in self.ranks:
            assert process.stdin is not None
            process.stdin.write(f"{settle} {counted}\n")
            process.stdin.flush()
        self.rates.append(counted / self.wait(folder))

    def wait(self, folder: Path) -> float:
        """Return the seconds of the window under way, of the slowest rank."""
        return max(self._read(rank, folder) for rank in range(self.count))

    def _read(self, rank: int, folder: Path) -> float:
        output = self.ranks[rank].stdout
        assert output is not None
        for line in output:
            if line.startswith(f"{WINDOW} "):
                return float(line.split()[1])
        log = (folder / f"{self.strategy}-{self.count}-{rank}" / "log").read_text(encoding="utf-8")
        raise SystemExit(f"{self.name}: rank {rank} ended\n{log[-3000:]}")

    def end(self) -> None:
        """Let the ranks leave, together: one may wait for another."""
        for process in self.ranks:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.ranks:
            process.wait()

    def kill(self) -> None:
        """End the ranks that are left."""
        for process in self.ranks:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def measure(groups: list[Group], arguments: argparse.Namespace) -> None:
    """Fill the rates of all groups."""
    settle = SETTLE_STEPS[not arguments.cpu]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limit = Timer(LIMIT_S, lambda: [group.kill() for group in groups])
        limit.start()
        try:
            for group in groups:
                group.start(folder, arguments)
            for group in groups:
                group.wait(folder)
            for _ in range(arguments.rounds):
                for group in groups:
                    group.measure(settle, arguments.steps, folder)
            for group in groups:
                group.end()
        finally:
            limit.cancel()
            for group in groups:
                group.kill()


def efficiencies(groups: list[Group]) -> list[dict[str, Any]]:
    """Return, for each group, the median rate and its share of the rate of one process, by strategy and by `auto`."""
    medians = {(group.strategy, group.count): median(group.rates) for group in groups}
    return [
        {
            "strategy": group.strategy,
            "processes": group.count,
            "steps_per_s": medians[group.strategy, group.count],
            "efficiency": medians[group.strategy, group.count] / medians[group.strategy, 1],
            "efficiency_to_auto": medians[group.strategy, group.count] / medians[ALONE, 1],
            "windows": group.rates,
        }
        for group in groups
    ]


def judge(rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return each claim about the largest number of processes, and whether it holds."""
    largest = max(row["processes"] for row in rows)
    return [
        (
            f"{row['strategy']} on {largest}: {100 * row['efficiency']:.1f} % of one, "
            f"claim at least {100 * CLAIMS[row['strategy']]:.0f} %",
            row["efficiency"] >= CLAIMS[row["strategy"]],
        )
        for row in rows
        if row["processes"] == largest and row["strategy"] in CLAIMS
    ]


def draw(rows: list[dict[str, Any]], batch_size: int, unit: str) -> Table:
    """Return the table of results."""
    table = Table(title=f"weak scaling, {batch_size} segments per {unit} and step")
    for heading in (
        "strategy",
        unit + "s",
        "steps/s",
        "lowest",
        "highest",
        "segments/s",
        "efficiency",
        "to auto",
    ):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    for row in rows:
        rate, windows = row["steps_per_s"], row["windows"]
        table.add_row(
            row["strategy"],
            str(row["processes"]),
            *(f"{value:.3f}" for value in (rate, min(windows), max(windows))),
            f"{rate * batch_size * row['processes']:.0f}",
            *(f"{100 * row[key]:.1f} %" for key in ("efficiency", "efficiency_to_auto")),
        )
    return table


def overrides(strategy: str, count: int, arguments: argparse.Namespace) -> list[str]:
    """Return what makes the recipe that of one group."""
    common = [f"trainer.strategy={strategy}", f"data.train_dataloader.batch_size={arguments.batch_size}"]
    if arguments.cpu:
        return [*common, "trainer.num_gpus=0", f"trainer.num_processes={count}", "data.segment_frames=16"]
    return [*common, f"trainer.num_gpus={count}", "trainer.precision=bf16-mixed"]


def parse() -> argparse.Namespace:
    """Return the command line, settled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="a small model on CPU processes; no claim")
    parser.add_argument("--strategies", nargs="+", default=["ddp", "deepspeed"], choices=list(CLAIMS))
    parser.add_argument("--counts", nargs="+", type=int, help="GPUs, or processes on the CPU; 1 is added")
    parser.add_argument("--rounds", type=int, default=6, help="windows of each combination")
    parser.add_argument("--steps", type=int, help="steps of a window (60; on the CPU 5)")
    parser.add_argument("--batch-size", type=int, help="segments per GPU (32; on the CPU 2)")
    parser.add_argument("--json", type=Path, default=Path("scaling.json"))
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or (5 if arguments.cpu else 60)
    arguments.batch_size = arguments.batch_size or (2 if arguments.cpu else 32)
    most = 2 if arguments.cpu else torch.cuda.device_count()
    if not most:
        parser.error("no GPU here; --cpu tries it without")
    counts = arguments.counts or [count for count in (2, 4, 8) if count <= most]
    arguments.counts = sorted({1, *counts})
    return arguments


def main() -> int:
    """Measure, print a table, and return 0 if the claims hold."""
    arguments = parse()
    if arguments.rank is not None:
        strategy, count = arguments.of[0], int(arguments.of[1])
        recipe = "default" if arguments.cpu else "full_size_complex"
        warm_up = WARM_UP_STEPS[not arguments.cpu]
        run_rank(arguments.rank, warm_up, overrides(strategy, count, arguments), recipe)
        return 0
    groups = [Group(ALONE, 1)]
    groups += [Group(strategy, count) for strategy in arguments.strategies for count in arguments.counts]
    measure(groups, arguments)
    rows = efficiencies(groups)
    console, unit = Console(width=100), "rank" if arguments.cpu else "GPU"
    console.print(draw(rows, arguments.batch_size, unit))
    verdicts = [] if arguments.cpu else judge(rows)
    for sentence, holds in verdicts:
        console.print(f"{sentence}: {'holds' if holds else 'FAILS'}")
    device = "CPU" if arguments.cpu else torch.cuda.get_device_name()
    holds = all(holds for _, holds in verdicts)
    result = {
        "device": device,
        "torch": torch.__version__,
        "command": shlex.join(sys.argv),
        "batch_size": arguments.batch_size,
        "steps_per_window": arguments.steps,
        "rows": rows,
        "holds": holds if verdicts else None,
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m pipeline.launch.largest_batch [key=value] ...`: the largest batch that fits into memory.

Batches are tried by real training steps, each in a fresh process, so that none sees what another has left in memory:
first doubled until one does not fit, then halved in between. On a GPU its memory is the limit, on the CPU the memory
that is free, or what `--memory-gb` says.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import compose
from pipeline.config.alone import compose_alone
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch import preflight
from pipeline.launch.command import module_command
from pipeline.launch.memory_probe import OUT_OF_MEMORY, SHARE
from pipeline.launch.preflight import Preflight
from pipeline.launch.report import plain_errors

_KEY = "data.train_dataloader.batch_size"
_GB = 1e9
_MOST = 4096
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_KILLED = -9  # by the system, when its memory is gone
_ABORTED = "bad_alloc"  # said by C++ before it ends the process


def search(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number from 1 to `most` that fits, 0 if none does; what is below one that fits does, too."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def find(checked: Preflight, limit_bytes: int, most: int, say: Callable[[str], None]) -> int:
    """Return the largest batch per process that fits, 0 if not even one sample does.

    Args:
        checked: the configuration.
        limit_bytes: of memory for each process.
        most: no larger batch is tried.
        say: takes a line for each try.

    Raises:
        LaunchError: a try has failed for another reason than memory.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        compose.dump(checked.config, path)

        def fits(batch_size: int) -> bool:
            peak = _try(path, batch_size, limit_bytes)
            say(
                f"batch {batch_size}: {'does not fit' if peak is None else f'fits, {peak / _GB:.2f} GB at most'}"
            )
            return peak is not None

        return search(fits, most)


def _try(config: Path, batch_size: int, limit_bytes: int) -> int | None:
    """Return the peak in bytes, None if memory did not suffice."""
    command = [
        sys.executable,
        "-m",
        "pipeline.launch.memory_probe",
        str(config),
        str(batch_size),
        str(limit_bytes),
    ]
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    if ended.returncode == 0:
        return int(ended.stdout.split()[-1])
    if (
        ended.returncode in (OUT_OF_MEMORY, _KILLED)
        or _ABORTED in ended.stderr
        or "MemoryError" in ended.stderr
    ):
        return None
    reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    raise LaunchError(f"a batch of {batch_size} could not be tried: {reason}")


def _limit_bytes(checked: Preflight, memory_gb: float | None) -> int:
    """Return the memory of each process in bytes, 0 for what is free on a GPU, which a try finds out by itself.

    Raises:
        ConfigError: `memory_gb` is no positive number.
    """
    if memory_gb is not None:
        if not memory_gb > 0:
            raise ConfigError(f"--memory-gb {memory_gb:g}: not a positive number of gigabytes")
        return int(memory_gb * _GB)
    if checked.resources.use_gpu:
        return 0
    return int(SHARE * _free_bytes() / checked.resources.processes_per_node)


def _free_bytes() -> int:
    """Return the memory that is free on this machine, within the bounds of its control group."""
    free = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    assert free is not None
    bounds = [Path(name).read_text(encoding="ascii").strip() for name in _CGROUPS if Path(name).is_file()]
    return min([1024 * int(free[1]), *(int(bound) for bound in bounds if bound.isdecimal())])


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, print, and return the exit code: 1 where not even one sample fits."""
    parser = argparse.ArgumentParser(
        prog=module_command("pipeline.launch.largest_batch"),
        description="Find the largest batch per process that fits into memory, by training steps of the configured run "
        "on made-up audio, each in a fresh process.",
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as of train.py")
    parser.add_argument(
        "--memory-gb", type=float, metavar="GB", help="limit per process (default: 95 %% of what is free)"
    )
    parser.add_argument(
        "--most", type=int, default=_MOST, metavar="N", help="largest batch to try (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    with plain_errors():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    composition = compose_alone(options.overrides)
    checked = preflight.check(compose.settle(composition), composition.given)
    limit = _limit_bytes(checked, options.memory_gb)
    kind = "GPU" if checked.resources.use_gpu else "CPU"
    memory = f"{limit / _GB:.2f} GB" if limit else f"{SHARE:.0%} of what is free"
    _say(
        f"{checked.model.encoder.type}, {checked.config.data.segment_frames} frames, "
        f"{checked.config.trainer.precision}, {memory} on the {kind} for each process"
    )
    found = find(checked, limit, options.most, _say)
    if not found:
        _say(
            "not even one sample fits: shorten data.segment_frames, or set "
            "model.autoencoder.activation_checkpointing=true or model.autoencoder.chunk_frames"
        )
        return 1
    bound = " (the largest tried, see --most)" if found == options.most else ""
    _say(f"largest batch that fits: {_KEY}={found} per process{bound}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Several processes: one that dies takes the run down and is named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.runs import ROOT, TINY


def _ranks_of(parent: int) -> dict[int, int]:
    """Global rank -> process id of the ranks that a process has started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, environment = (folder / "stat").read_text(), (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and b"pipeline.launch.rank" in command:
            rank = next(entry for entry in environment.split(b"\0") if entry.startswith(b"RANK="))
            found[int(rank[5:])] = int(folder.name)
    return found


def test_a_killed_rank_ends_the_run_and_is_named(tmp_path, cache_dir):
    environment = os.environ | {
        "EULER_RUNS": str(tmp_path),
        "EULER_CACHE": str(cache_dir),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *TINY,
        "trainer.num_processes=2",
        "trainer.trainer.max_steps=100000",
    ]
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 180
        while not any(path.stat().st_size > 300 for path in tmp_path.rglob("metrics.csv")):
            assert time.monotonic() < deadline and run.poll() is None, run.communicate()
            time.sleep(0.2)
        ranks = _ranks_of(run.pid)
        assert set(ranks) == {0, 1}
        os.kill(ranks[1], signal.SIGKILL)
        output, _ = run.communicate(timeout=30)
    finally:
        run.kill()
    assert run.returncode == 1
    # the other rank may notice first that its peer is gone; the one that was killed is named all the same
    assert "rank 1 was killed by signal SIGKILL" in output, output
    assert not any(Path(f"/proc/{process}").exists() for process in ranks.values())

"""What a run says when the machine lacks something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_ENTER = 'mount -t tmpfs -o size="$0" none /dev/shm && exec "$@"'


def enclosed(size: str, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that sees so much shared memory."""
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, size, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("size", [pytest.param("300k", marks=pytest.mark.long), "2m"])
def test_too_little_shared_memory_is_named_with_the_remedy(size: str, tmp_path: Path) -> None:
    if enclosed(size, "true").returncode:
        pytest.skip("mounting needs root")
    options = ["trainer.num_gpus=0", "trainer.trainer.max_steps=2", "trainer.trainer.num_sanity_val_steps=0"]
    run = enclosed(size, sys.executable, "train.py", f"run.dir={tmp_path}/run", *options)
    said = run.stdout + run.stderr
    assert run.returncode == 1, said
    assert "DataError" in said and "shared memory" in said and "data.train_dataloader" in said, said
    assert "--shm-size" in said and "Error executing job" not in said, said

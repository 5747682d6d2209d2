"""The search for the largest batch, and the command on the CPU with a limit of memory."""

import re
import subprocess
import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.launch.largest_batch import _limit_bytes, search
from tests.integration.runs import ROOT


@pytest.mark.parametrize("largest", [*range(20), 63, 64, 65, 99, 100, 1000])
def test_search(largest):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= largest

    assert search(fits, 100) == min(largest, 100)
    assert len(set(tried)) == len(tried) <= 2 * 7 + 1 and max(tried) <= 100


def command(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.launch.largest_batch", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "EULER_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_refusals_are_those_of_a_launch(tmp_path):
    ended = command(tmp_path, "trainer.sede=1")
    assert ended.returncode == 1 and "trainer.sede: unknown key" in ended.stdout + ended.stderr


def test_the_limit_is_a_positive_number():
    with pytest.raises(ConfigError, match="--memory-gb 0: not a positive number"):
        _limit_bytes(None, 0.0)


@pytest.mark.long
def test_the_largest_batch_fits_and_less_memory_takes_less(tmp_path):
    found = []
    for limit in ("1.6", "0.8", "0.05"):
        ended = command(
            tmp_path, "trainer.num_gpus=0", "data.segment_frames=33", "--memory-gb", limit, "--most", "64"
        )
        sizes = re.findall(r"batch_size=(\d+) per process", ended.stdout)
        assert ended.returncode == (0 if sizes else 1), ended.stdout + ended.stderr
        found.append(int(sizes[0]) if sizes else 0)
        for size, fits in re.findall(r"batch (\d+): (fits|does not fit)", ended.stdout):
            assert (int(size) <= found[-1]) == (fits == "fits")
    assert found[0] > found[1] > found[2] == 0

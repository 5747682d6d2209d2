"""Order of the tests: files that take minutes begin first, so that no process is left alone with one at the end.

And what tests of several folders share: where images are built, and the image for Apptainer.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.containers.workplace import Workplace

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(
        1
    )  # threads of two processes wait for each other, on as many cores, ten times as long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the integration tests first; the order is otherwise kept."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def site() -> Iterator[Workplace]:
    """Return where images are built and run."""
    assert os.getuid() == 0, "make test-containers installs an engine and makes a user: run it as root"
    made = Workplace()
    yield made
    made.close()


@pytest.fixture(scope="session")
def sif_cpu(site: Workplace) -> Path:
    """Return the CPU image for Apptainer."""
    return site.sif_cpu

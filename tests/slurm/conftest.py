"""One cluster for all tests of a process, emptied before each."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, free_port
from tests.slurm.recipes import Recipe
from tests.slurm.references import References
from tests.slurm.submitted import Sweep


@pytest.fixture(scope="session")
def workplace() -> Iterator[Path]:
    """A folder of this process that other users can reach, as pytest's own cannot."""
    folder = Path(tempfile.mkdtemp(prefix="euler-slurm-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of the test session."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def references(shared: Path) -> Iterator[References]:
    trained = References(shared / "references", shared / "cache")
    yield trained
    trained.close()


@pytest.fixture(scope="session")
def reference(references: References) -> Callable[..., Path]:
    """Return the uninterrupted run of a recipe, with further arguments."""

    def find(recipe: Recipe, *more: str) -> Path:
        return references.of(*recipe.common, *recipe.alone, *more)

    return find


@pytest.fixture(scope="session")
def running_cluster(workplace: Path) -> Iterator[Cluster]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    cluster = Cluster(workplace / "cluster", free_port(17000 + 256 * worker))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """The cluster with two idle nodes and no job."""
    running_cluster.begin()
    return running_cluster


@pytest.fixture
def sweep(cluster: Cluster, workplace: Path, shared: Path, request: pytest.FixtureRequest) -> Iterator[Sweep]:
    """A sweep that is to be submitted; all that its jobs said is shown if the test fails."""
    folder = Path(tempfile.mkdtemp(prefix="sweep-", dir=workplace))
    folder.chmod(0o755)
    made = Sweep(cluster, folder, shared / "cache")
    yield made
    sys.stdout.write(made.describe())

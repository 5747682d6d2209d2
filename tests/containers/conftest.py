"""The images of a session: built once from the checkout, by an engine and an Apptainer that are stopped at the end.

Processes that share the tests share them by file: the engine serves one of them alone.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT
from tests.containers.workplace import HERE, Workplace


@pytest.fixture(scope="session")
def image_cpu(site: Workplace) -> str:
    """Return the name of the CPU image in the engine."""
    return site.image("cpu")


@pytest.fixture(scope="session")
def test_image(site: Workplace, image_cpu: str) -> str:
    """Return the name of the CPU image with the development lock and the tests on top."""
    context = site.session / "tests-context"
    (context / "containers").mkdir(parents=True)
    shutil.copytree(site.wheels("cpu"), context / "containers" / "wheels")
    shutil.copy(ROOT / "containers" / "requirements-dev.lock", context / "containers")
    shutil.copytree(ROOT / "tests", context / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    name = f"{image_cpu}-tests"
    build = [*site.docker, "build", "--network=none", "--build-arg", f"BASE_IMAGE={image_cpu}", "--tag", name]
    site.run(*build, "--file", HERE / "Dockerfile.tests", context, DOCKER_BUILDKIT="1")
    return name


@pytest.fixture
def folder(site: Workplace) -> Iterator[Path]:
    """Return a folder that every user may write to."""
    made = Path(tempfile.mkdtemp(prefix="runs-", dir=site.session))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)

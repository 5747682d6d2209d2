"""The SIF: nothing that the build was lent, no folder of the host, and training."""

import sys

import pytest

from tests.architecture.source_tree import ROOT
from tests.containers.inside import InApptainer
from tests.containers.training import TrainingInAnImage, check_fast_tests
from tests.containers.workplace import SECRET

pytestmark = pytest.mark.containers


class TestTraining(TrainingInAnImage):
    @pytest.fixture
    def inside(self, site, sif_cpu):
        return InApptainer(site, sif_cpu)


def test_fast_tests(site, sif_cpu, folder):
    """The SIF itself is tested; what the tests need besides is bound into it."""
    packages = site.session / "dev"
    lock, wheels = ROOT / "containers" / "requirements-dev.lock", site.wheels("cpu")
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--require-hashes", "--no-index"]
    site.run(*pip, "--only-binary", ":all:", "--find-links", wheels, "--target", packages, "-r", lock)
    enclosed = InApptainer(
        site, sif_cpu, (f"{packages}:/opt/dev:ro", f"{site.checkout}/tests:/opt/euler/tests:ro")
    )
    check_fast_tests(enclosed, folder, PYTHONPATH="/opt/dev")


def test_the_folders_of_the_host_are_not_named_in_a_sif(site, sif_cpu, folder):
    variables = InApptainer(site, sif_cpu)("env", folder=folder)
    assert "WANDB_MODE=offline" in variables and "EULER_" not in variables


def test_no_secret_in_the_sif(site, sif_cpu, folder):
    search = (
        f"grep -rlF -e {SECRET} -e {site.session} / --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev"
    )
    found = InApptainer(site, sif_cpu)(
        "sh", "-c", f"{search} --exclude-dir=tmp 2>/dev/null || true", folder=folder
    )
    own_records = ("/etc/mtab", "/.singularity.d/")
    assert [
        line for line in found.splitlines() if not line.startswith((*own_records, str(site.session)))
    ] == []

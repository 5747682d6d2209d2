"""The Docker image: who it says it is, nothing that the build was lent, and training."""

import hashlib
import json
import tarfile

import pytest

from tests.architecture.source_tree import ROOT
from tests.containers.inside import InApptainer, InDocker, facts
from tests.containers.training import TrainingInAnImage, check_fast_tests
from tests.containers.workplace import SECRET

pytestmark = pytest.mark.containers
BLOCK = 1 << 22


class TestTraining(TrainingInAnImage):
    @pytest.fixture
    def inside(self, site, image_cpu):
        return InDocker(site, image_cpu)


def test_fast_tests(site, test_image, folder):
    check_fast_tests(InDocker(site, test_image), folder)


def docker_labels(site, image):
    (described,) = json.loads(site.run(*site.docker, "image", "inspect", image))
    return described["Config"]["Labels"]


def sif_labels(site, sif):
    described = site.as_user("apptainer", "--silent", "inspect", "--json", "--labels", sif)
    return json.loads(described[described.index("{") :])["data"]["attributes"]["labels"]


def test_images_say_what_they_are(site, image_cpu, sif_cpu, folder):
    lock = (ROOT / "containers" / "requirements-cpu.lock").read_bytes()
    said = facts(InDocker(site, image_cpu), folder)
    assert said == facts(InApptainer(site, sif_cpu), folder)
    assert said["lock"] == "requirements-cpu.lock" and said["lock_sha256"] == hashlib.sha256(lock).hexdigest()
    assert said["torch"].endswith("+cpu") and said["base"].startswith("docker-archive@sha256:")
    ours = {name: value for name, value in docker_labels(site, image_cpu).items()}
    assert ours["euler.lock"] == said["lock_sha256"] and ours["euler.torch"] == said["torch"]
    assert ours["org.opencontainers.image.revision"] == said["revision"]
    assert ours.items() <= sif_labels(site, sif_cpu).items()


def contains(stream, wanted):
    """Whether any of the byte strings occurs in a stream, across the borders of blocks too."""
    longest, tail = max(map(len, wanted)), b""
    while block := stream.read(BLOCK):
        if any(text in tail + block for text in wanted):
            return True
        tail = block[-longest:]
    return False


def test_no_secret_in_any_layer(site, image_cpu, folder):
    """The image was built with a pip.conf and a CA bundle that hold a secret."""
    history = site.run(*site.docker, "history", "--no-trunc", image_cpu)
    assert "fill_image.sh packages" in history and SECRET not in history
    saved = site.session / "saved.tar"
    site.run(*site.docker, "save", "--output", saved, image_cpu)
    searched, wanted = 0, (SECRET.encode(), str(site.session).encode())
    with tarfile.open(saved) as archive:
        for member in archive:
            if member.isfile():
                assert not contains(archive.extractfile(member), wanted), member.name
                searched += member.size
    saved.unlink()
    assert searched > 10**9  # the layers are not packed


def test_the_search_finds_what_is_there(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * (BLOCK - 3) + SECRET.encode() + b"x" * BLOCK)
    with (tmp_path / "file").open("rb") as stream:
        assert contains(stream, (SECRET.encode(),))
    with (tmp_path / "file").open("rb") as stream:
        assert not contains(stream, (b"another",))


def test_a_base_without_a_digest_is_refused(site):
    build = site.checkout / "containers" / "build.sh"
    for kind in ("image", "sif"):
        for base in ("", "debian:bookworm", "/nowhere/base.tar"):
            code, output = site.attempt(build, kind, "cpu", BASE_IMAGE=base, FROM="definition")
            assert code == 1 and "BASE_IMAGE" in output, output


@pytest.mark.long
def test_a_sif_of_the_docker_image(site, image_cpu, sif_cpu, folder):
    """The same as that from the definition, without what suits Docker alone."""
    made = site.sif_of_image("cpu")
    assert facts(InApptainer(site, made), folder) == facts(InApptainer(site, sif_cpu), folder)
    environments = [InApptainer(site, sif)("env", folder=folder).splitlines() for sif in (made, sif_cpu)]
    first, second = ({line for line in lines if "sif" not in line} for lines in environments)
    assert first == second


@pytest.mark.long
def test_the_cuda_image(site, folder):
    """It imports everything that is locked and trains a step on the CPU."""
    inside = InDocker(site, site.image("cuda"))
    imports = (
        "import torch, torchaudio, pytorch_lightning, deepspeed, triton, wandb, tensorboard, matplotlib, soundfile;"
        "assert torch.version.cuda; import pipeline.launch.run, pipeline.training.assembly; print('imported')"
    )
    assert "imported" in inside("python", "-c", imports, folder=folder)
    # what Triton does with the launcher of a kernel
    link = (
        "import subprocess, sysconfig;"
        "headers = '-I' + sysconfig.get_path('include');"
        "subprocess.run(['gcc', '-shared', '-fPIC', '-x', 'c', '-', '-o', '/tmp/a.so', headers],"
        " input=b'#include <Python.h>\\n#include <stdlib.h>\\n', check=True); print('linked')"
    )
    assert "linked" in inside("python", "-c", link, folder=folder)
    places = {"EULER_RUNS": str(folder), "EULER_CACHE": str(folder / "cache")}
    steps = ("trainer.trainer.max_steps=1", "trainer.trainer.limit_val_batches=1")
    inside("python", "train.py", *steps, folder=folder, environment=places)
    assert list(folder.glob("default/*/checkpoints/last.ckpt"))

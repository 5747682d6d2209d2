"""slurm/job.sh with an image: the tasks enter it, and it is the one of the submission."""

import hashlib
import json

import pytest

from tests.launch.slurm.batch_node import BatchNode


@pytest.fixture
def node(tmp_path):
    return BatchNode(tmp_path)


def with_image(node, content="an image\n", digest=None, mtime=None):
    """Let the run have been submitted with an image; return its path and what the job finds it by."""
    image = node.folder / "the image.sif"
    image.write_text(content)
    facts = image.stat()
    found = digest or f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    (node.run / ".job").mkdir(parents=True, exist_ok=True)
    line = f"{found} {facts.st_size} {int(facts.st_mtime) if mtime is None else mtime}\n"
    (node.run / ".job" / "image").write_text(line)
    return image, found


def test_tasks_in_an_image(node):
    image, digest = with_image(node)
    node.does("srun", "echo $EULER_IMAGE_DIGEST > $NODE/told")
    ended = node.live(setup="in_image=(--folder=/x '--data=/a b')", EULER_IMAGE=str(image))
    assert (ended.code, ended.events[-1]) == (0, "finished")
    (step,) = node.calls("srun")
    task = f"python -m pipeline.launch.slurm.task {node.run}"
    assert step.endswith(f"slurm/in_image.sh {node.run} --folder=/x --data=/a b -- {task}")
    assert (node.folder / "told").read_text().strip() == digest


def test_an_image_that_was_copied_again_is_the_same(node):
    image, _ = with_image(node, mtime=5)
    assert node.live(EULER_IMAGE=str(image)).events[-1] == "finished"


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_an_image_that_is_not_the_one_of_the_submission(change, node):
    image, _ = with_image(node, digest="sha256:0", mtime=5)
    if change == "gone":
        image.unlink()
    ended = node.live(EULER_IMAGE=str(image))
    assert (ended.code, ended.events) == (1, ["start localhost", "failed 1"])
    reason = json.loads((node.run / ".job" / "failure").read_text())["reason"]
    assert ("another image" if change == "replaced" else "no file that can be read") in reason
    assert str(image) in reason and node.calls("srun") == []

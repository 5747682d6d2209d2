"""What a job is to train, stored and read."""

import json

import pytest

from pipeline.config.compose import settle
from pipeline.errors import LaunchError
from pipeline.launch.slurm import submission
from tests.config.compositions import compose


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("model=SEANet_real_small", "trainer.optimizer.config.lr=1e-5", "trainer.seed=7"),
        ("trainer.scheduler.type=StepLR", "trainer.scheduler.config={step_size: 3}"),
        ("trainer.trainer.max_time=00:01:00:00", "run.name='a: b'", "trainer.trainer.deterministic=false"),
    ],
)
def test_it_is_read_as_it_was_composed(arguments, tmp_path):
    composition = compose(*arguments)
    submission.write(tmp_path / "run", composition)
    found = submission.read(tmp_path / "run")
    assert settle(found) == settle(composition)
    assert (found.given, found.overrides, found.sweep_dir) == (
        composition.given,
        composition.overrides,
        composition.sweep_dir,
    )
    assert found.hydra_tree["hydra"]["sweep"]["dir"] == composition.hydra_tree["hydra"]["sweep"]["dir"]


def test_nothing_is_read_again_from_elsewhere(tmp_path, monkeypatch):
    """A DeepSpeed JSON that is edited, another working directory, and another environment change nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EULER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "audio").mkdir()
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    submission.write(
        tmp_path / "run", compose("data=folder", "data.root=audio", "trainer.deepspeed=zero.json")
    )
    (tmp_path / "zero.json").unlink()
    monkeypatch.chdir("/")
    monkeypatch.delenv("EULER_CACHE")
    config = settle(submission.read(tmp_path / "run"))
    assert config.data.root == str(tmp_path / "audio")
    assert config.data.cache_dir == str(tmp_path / "cache")
    assert config.trainer.deepspeed.stage == 1


def test_there_is_none(tmp_path):
    with pytest.raises(LaunchError, match=r"submission.yaml: no such file.*submit the run again"):
        submission.read(tmp_path)


@pytest.mark.parametrize("text", ["tree: [", "- 1", "tree: {}", "\0"])
def test_a_damaged_one(text, tmp_path):
    (tmp_path / "submission.yaml").write_text(text)
    with pytest.raises(LaunchError, match="submit the run again"):
        submission.read(tmp_path)

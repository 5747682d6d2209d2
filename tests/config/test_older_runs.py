"""The configuration of a run that was begun before a key existed is completed with what was done then."""

import pytest
from omegaconf import OmegaConf

from pipeline.config.compose import dump, read, settle
from pipeline.launch.identity import identity_difference
from tests.config.compositions import compose


@pytest.mark.parametrize(
    "later", [("scratch_dir",), ("selection", "mix", "scratch_dir", "train_dataset.silence_db")]
)
def test_data_keys_that_came_later(tmp_path, later):
    config, path = settle(compose("data.train_dataset.segments_per_epoch=7")), tmp_path / "config.yaml"
    dump(config, path)
    tree = OmegaConf.to_container(OmegaConf.load(path))
    for key in later:
        *inside, name = key.split(".")
        block = tree["data"]
        for part in inside:
            block = block[part]
        del block[name]
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(tree)))
    assert identity_difference(read(path), config) is None
    assert read(path).data == config.data

"""Files that a user writes into the groups of conf/, before Hydra reads them."""

import shutil

import pytest
import yaml

from pipeline.config.compose import CONF_DIR, open_overrides
from pipeline.config.site_schema import SiteSettings
from pipeline.errors import ConfigError


@pytest.fixture
def conf(tmp_path):
    return shutil.copytree(CONF_DIR, tmp_path / "conf")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("partition: [a\n b: {", ("mine.yaml", "cannot be read as YAML", "line 2", "mend it")),
        ("- gpu\n- cpu\n", ("mine.yaml", "a block of keys", "conf/site/example.yaml")),
        ("", ("mine.yaml", "has no partition, account", "defaults: [none]")),
        ("partition: gpu\n", ("mine.yaml", "has no account, qos", "defaults: [none]")),
    ],
)
@pytest.mark.parametrize("choice", ["mine", "mine.yaml", "none,mine"])
def test_a_site_that_cannot_be_used(text, parts, choice, conf):
    (conf / "site" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as refusal:
        open_overrides([f"site={choice}"], conf)
    assert [part for part in parts if part not in str(refusal.value)] == []


def test_any_other_group(conf):
    (conf / "model" / "mine.yaml").write_text("a: b: c\n")
    with pytest.raises(ConfigError, match=r"model/mine\.yaml: cannot be read as YAML"):
        open_overrides(["model=mine"], conf)


def test_a_site_that_says_the_rest_is_as_usual(conf):
    (conf / "site" / "mine.yaml").write_text("defaults: [none]\npartition: gpu\n")
    assert open_overrides(["site=mine"], conf) == ["site=mine"]


@pytest.mark.parametrize("name", ["none", "example"])
def test_the_sites_that_are_there_are_whole(name):
    tree = yaml.safe_load((CONF_DIR / "site" / f"{name}.yaml").read_text())
    assert set(tree) == set(SiteSettings.model_fields)
    assert open_overrides([f"site={name}"]) == [f"site={name}"]

"""What the configurations of older runs lack: keys that came later, with the values that mean what was done before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.trainer_schema import TrainerSettings

_LATER = ("scratch_dir", "selection", "mix")
_LATER_OF_TRAIN_DATASET = ("silence_db", "augmentations")


def complete(tree: dict[Any, Any], conf_dir: Path, shipped_trainer: Mapping[str, Any]) -> None:
    """Give a run that an earlier version began the shipped values of keys that there were not yet."""
    if "site" not in tree:
        tree["site"] = OmegaConf.to_container(OmegaConf.load(conf_dir / "site" / "none.yaml"), resolve=True)
    if isinstance(tree.get("data"), dict):
        tree["data"] = _with_later_data(tree["data"], conf_dir)
    if "container" not in tree:
        tree["container"] = OmegaConf.to_container(OmegaConf.load(conf_dir / "config.yaml").container)
    trainer, shipped = tree.get("trainer"), shipped_trainer
    if isinstance(trainer, dict):
        for key in TrainerSettings.model_fields.keys() & shipped.keys() - trainer.keys():
            trainer[key] = shipped[key]
        if isinstance(trainer.get("trainer"), dict):
            trainer["trainer"] = {**shipped["trainer"], **trainer["trainer"]}


def _with_later_data(data: Mapping[Any, Any], conf_dir: Path) -> dict[Any, Any]:
    """Return the `data` of a run with the shipped values of the keys that it did not have when it began."""
    shipped = OmegaConf.to_container(OmegaConf.load(conf_dir / "data" / "default.yaml"), resolve=False)
    assert isinstance(shipped, dict)
    complete = {**{name: shipped[name] for name in _LATER}, **data}
    own = complete.get("train_dataset")
    if isinstance(own, Mapping):
        later = {name: shipped["train_dataset"][name] for name in _LATER_OF_TRAIN_DATASET}
        complete["train_dataset"] = {**later, **own}
    return complete

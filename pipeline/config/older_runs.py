"""The configuration of a run that an earlier version began, completed by keys that there were not yet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.schema import AutoencoderSettings
from pipeline.config.trainer_schema import TrainerSettings

_LATER = ("scratch_dir", "selection", "mix")
_LATER_OF_TRAIN_DATASET = ("silence_db", "augmentations")
_MODEL = "SEANet_complex_small.yaml"  # the base of the shipped models


def complete(tree: dict[Any, Any], conf_dir: Path, shipped_trainer: dict[str, Any]) -> None:
    """Give keys that are missing their shipped values, which leave a run what it was.

    Args:
        tree: of a run's `config.yaml`; it is changed.
        conf_dir: folder of the shipped configuration.
        shipped_trainer: the `trainer` group as it is shipped.
    """
    if "site" not in tree:
        tree["site"] = OmegaConf.to_container(OmegaConf.load(conf_dir / "site" / "none.yaml"), resolve=True)
    if "container" not in tree:
        tree["container"] = OmegaConf.to_container(OmegaConf.load(conf_dir / "config.yaml").container)
    if isinstance(tree.get("data"), dict):
        tree["data"] = _with_later_data(tree["data"], conf_dir)
    trainer = tree.get("trainer")
    if isinstance(trainer, dict):
        _fill(trainer, TrainerSettings.model_fields, shipped_trainer)
        if isinstance(trainer.get("trainer"), dict):
            trainer["trainer"] = {**shipped_trainer["trainer"], **trainer["trainer"]}
    model = tree.get("model")
    if isinstance(model, dict) and isinstance(model.get("autoencoder"), dict):
        shipped = OmegaConf.load(conf_dir / "model" / _MODEL).autoencoder
        _fill(model["autoencoder"], AutoencoderSettings.model_fields, shipped)


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


def _fill(block: dict[Any, Any], known: Any, shipped: dict[Any, Any]) -> None:
    for key in known.keys() & shipped.keys() - block.keys():
        block[key] = shipped[key]

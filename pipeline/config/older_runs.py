"""What the configurations of older runs lack: keys that came later, with the values that mean what was done before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_LATER = ("scratch_dir", "selection", "mix")
_LATER_OF_TRAIN_DATASET = ("silence_db", "augmentations")


def with_later_data(data: Mapping[Any, Any], conf_dir: Path) -> dict[Any, Any]:
    """Return the `data` of a run with the shipped values of the keys that it did not have when it began."""
    shipped = OmegaConf.to_container(OmegaConf.load(conf_dir / "data" / "default.yaml"), resolve=False)
    assert isinstance(shipped, dict)
    complete = {**{name: shipped[name] for name in _LATER}, **data}
    own = complete.get("train_dataset")
    if isinstance(own, Mapping):
        later = {name: shipped["train_dataset"][name] for name in _LATER_OF_TRAIN_DATASET}
        complete["train_dataset"] = {**later, **own}
    return complete

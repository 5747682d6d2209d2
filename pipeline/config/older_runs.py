"""What the configurations of older runs lack: keys that came later, with the values that mean what was done before."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_LATER = ("scratch_dir", "selection", "mix")


def shipped_data(conf_dir: Path) -> dict[str, Any]:
    """Return the shipped values of the keys that `data` did not have from the beginning."""
    shipped = OmegaConf.to_container(OmegaConf.load(conf_dir / "data" / "default.yaml"), resolve=False)
    assert isinstance(shipped, dict)
    return {name: shipped[name] for name in _LATER}

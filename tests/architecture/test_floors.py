"""Who may import whom: floors, siblings, and the places that know Lightning, Hydra and submitit."""

import pytest

from tests.architecture.source_tree import ROOT, imported_modules, parse, plant, python_files

FLOORS = {
    "errors": 0,
    "config": 1,
    "dsp": 1,
    "layers": 2,
    "models": 3,
    "losses": 3,
    "data": 3,
    "training": 4,
    "evaluation": 4,
    "inference": 4,
    "launch": 5,
}

# Families of one floor do not know each other, but for these: (importing family, imported module) -> reason.
# (evaluation also takes its spectrograms from losses, one floor below it: no exception is needed.)
EXCEPTIONS = {
    ("training", "pipeline.evaluation"): "the training loop validates",
    ("inference", "pipeline.training.checkpoint"): "a codec starts from a checkpoint",
}

# Library -> the only places that may import it.
HOMES = {
    "pytorch_lightning": ("pipeline/training/", "pipeline/data/datamodule.py", "pipeline/launch/"),
    "lightning": ("pipeline/training/", "pipeline/data/datamodule.py", "pipeline/launch/"),
    "lightning_fabric": ("pipeline/training/", "pipeline/data/datamodule.py", "pipeline/launch/"),
    "lightning_utilities": ("pipeline/training/", "pipeline/data/datamodule.py", "pipeline/launch/"),
    "hydra": ("train.py", "pipeline/config/", "hydra_plugins/"),
    "submitit": ("pipeline/launch/", "hydra_plugins/"),
}

HEAVY = {"torch", "torchaudio", "torchmetrics", "deepspeed", *HOMES} - {"hydra"}


def _is_exception(family, module):
    return any(
        family == importer and (module == allowed or module.startswith(f"{allowed}."))
        for importer, allowed in EXCEPTIONS
    )


def floor_violations(root):
    """Imports inside `pipeline` that go up, sideways, or are relative; one line each."""
    found = []
    for path in python_files(root, ("pipeline",)):
        parts = path.relative_to(root / "pipeline").with_suffix("").parts
        family, place = parts[0], path.relative_to(root).as_posix()
        if family != "__init__" and family not in FLOORS:
            found.append(f"{place}: {family} has no floor; valid: {', '.join(FLOORS)}")
            continue
        for module, line in imported_modules(parse(path)):
            if module.startswith("."):
                found.append(f"{place}:{line}: relative import {module}")
            if not module.startswith("pipeline."):
                continue
            other = module.split(".")[1]
            if other not in FLOORS:
                continue  # a name of pipeline/__init__.py itself
            downward = family != "__init__" and FLOORS[other] < FLOORS[family]
            if not (other == family or downward or _is_exception(family, module)):
                found.append(f"{place}:{line}: {family} imports {module}")
    return found


def library_violations(root):
    """Imports of a library outside its homes; one line each."""
    found = []
    for path in python_files(root):
        place = path.relative_to(root).as_posix()
        for module, line in imported_modules(parse(path)):
            homes = HOMES.get(module.split(".")[0])
            if homes is not None and not place.startswith(homes):
                found.append(f"{place}:{line}: imports {module}; its homes: {', '.join(homes)}")
    return found


def heavy_init_violations(root):
    """Family `__init__.py` files that import torch or its kin."""
    found = []
    for path in python_files(root, ("pipeline",)):
        if path.name == "__init__.py":
            for module, line in imported_modules(parse(path)):
                if module.split(".")[0] in HEAVY:
                    found.append(f"{path.relative_to(root).as_posix()}:{line}: imports {module}")
    return found


CHECKS = (floor_violations, library_violations, heavy_init_violations)


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_stands(check):
    assert check(ROOT) == []


def test_every_exception_is_used():
    """A row of the table that nothing needs is removed."""
    used = {
        (family, allowed)
        for path in python_files(ROOT, ("pipeline",))
        for module, _ in imported_modules(parse(path))
        for family, allowed in EXCEPTIONS
        if path.is_relative_to(ROOT / "pipeline" / family) and f"{module}.".startswith(f"{allowed}.")
    }
    missing = set(EXCEPTIONS) - used
    assert all(not (ROOT / "pipeline" / family).exists() for family, _ in missing), missing


PLANTED = {
    "upward": (floor_violations, "pipeline/dsp/x.py", "from pipeline.layers import conv\n"),
    "upward inside a function": (
        floor_violations,
        "pipeline/models/x.py",
        "def f():\n    import pipeline.launch.run\n",
    ),
    "upward for types only": (
        floor_violations,
        "pipeline/config/x.py",
        "if TYPE_CHECKING:\n    from pipeline.training.module import M\n",
    ),
    "whole package upward": (floor_violations, "pipeline/data/x.py", "from pipeline import training\n"),
    "sideways": (floor_violations, "pipeline/losses/x.py", "from pipeline.models import seanet\n"),
    "sideways on floor 1": (floor_violations, "pipeline/dsp/x.py", "import pipeline.config.registry\n"),
    "exception, turned round": (
        floor_violations,
        "pipeline/evaluation/x.py",
        "from pipeline.training import module\n",
    ),
    "exception, too wide": (
        floor_violations,
        "pipeline/inference/x.py",
        "from pipeline.training import module\n",
    ),
    "relative": (floor_violations, "pipeline/dsp/x.py", "from . import stft\n"),
    "the root knows a family": (floor_violations, "pipeline/__init__.py", "from pipeline.dsp import stft\n"),
    "family without a floor": (floor_violations, "pipeline/extras/x.py", ""),
    "Lightning in losses": (
        library_violations,
        "pipeline/losses/x.py",
        "from pytorch_lightning import Trainer\n",
    ),
    "Lightning in data": (
        library_violations,
        "pipeline/data/x.py",
        "def f():\n    import pytorch_lightning as pl\n",
    ),
    "Hydra in launch": (
        library_violations,
        "pipeline/launch/x.py",
        "from hydra.core.hydra_config import HydraConfig\n",
    ),
    "submitit in training": (library_violations, "pipeline/training/x.py", "import submitit\n"),
    "torch in an __init__": (heavy_init_violations, "pipeline/models/__init__.py", "from torch import nn\n"),
}


@pytest.mark.parametrize(("check", "place", "text"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(check, place, text, tmp_path):
    found = check(plant(tmp_path, {place: text}))
    assert len(found) == 1 and found[0].startswith(place)


SOUND = {
    "downward": (
        "pipeline/training/x.py",
        "from pipeline.models.seanet import S\nfrom pipeline import errors\n",
    ),
    "own family": ("pipeline/dsp/x.py", "from pipeline.dsp.stft import Stft\n"),
    "exceptions": ("pipeline/training/x.py", "from pipeline.evaluation.metrics import M\n"),
    "checkpoint": ("pipeline/inference/x.py", "from pipeline.training.checkpoint import read\n"),
    "homes": ("pipeline/data/datamodule.py", "import pytorch_lightning as pl\n"),
    "version": ("pipeline/launch/x.py", "from pipeline import __version__\n"),
}


@pytest.mark.parametrize(("place", "text"), SOUND.values(), ids=SOUND)
def test_sound_imports_pass(place, text, tmp_path):
    root = plant(tmp_path, {place: text})
    assert [line for check in CHECKS for line in check(root)] == []

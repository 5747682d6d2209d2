"""The command line, its refusals and submission are quick: they import no torch."""

import ast

import pytest

from tests.architecture.source_tree import ROOT, python_files
from tests.config.command_line import HEAVY, python, train

_IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert not {heavy} & set(sys.modules), f"{{name}} imports {{sorted({heavy} & set(sys.modules))}}"
"""


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def light_modules():
    """What `train.py` imports, every package's __init__, and every module that says that it imports no torch."""
    for path in python_files(ROOT, ("pipeline",)):
        text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
        by_place = path.parent.name in ("launch", "config") or path.name == "__init__.py"
        if by_place or "mports no torch" in text or "eeds no torch" in text:
            yield module_name(path)


LIGHT = sorted(light_modules())


def test_light_modules(tmp_path):
    assert {
        "pipeline.launch.job",
        "pipeline.launch.run",
        "pipeline.config.compose",
        "pipeline.models",
    } <= set(LIGHT)
    ended = python("-c", _IMPORT_EACH.format(heavy=set(HEAVY)), *LIGHT, home=tmp_path / "run")
    assert ended.code == 0, ended.output
    assert ended.heavy == ()


def test_the_watch_works(tmp_path):
    """What is imported inside a function is seen too."""
    ended = python("-c", "def f():\n    import torch\nf()", home=tmp_path / "run")
    assert ended.code == 0 and "torch" in ended.heavy


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "trainer:"),
        (["--cfg", "job"], "seed: 94"),
        (["--cfg", "job", "model=SEANet_real", "trainer.seed=7", "--resolve"], "seed: 7"),
        (["--info", "defaults"], "conf"),
        (["trainer.sede=1"], "trainer.sede: unknown key"),
        (["hydra/launcher=submitit_slurm"], "train.py -m hydra/launcher=submitit_slurm"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_is_light(arguments, said, tmp_path):
    ended = train(*arguments, home=tmp_path / "run")
    assert said in ended.output
    assert ended.heavy == ()
    assert ended.written == ()
    assert ended.seconds < 5

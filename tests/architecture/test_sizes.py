"""A file is read in one go, a function on one screen."""

import ast

import pytest

from tests.architecture.source_tree import ROOT, parse, plant, python_files

MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 60  # its docstring not counted


def long_files(root, places=("train.py", "pipeline", "hydra_plugins", "benchmarks", "tests")):
    found = []
    for path in python_files(root, places):
        length = len(path.read_text(encoding="utf-8").splitlines())
        if length > MOST_LINES_OF_A_FILE:
            found.append(f"{path.relative_to(root).as_posix()}: {length} lines")
    return found


def _length(function):
    """Lines of a function without its docstring."""
    length = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= first.end_lineno - first.lineno + 1
    return length


def long_functions(root):
    found = []
    for path in python_files(root):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = _length(node)
                if length > MOST_LINES_OF_A_FUNCTION:
                    place = path.relative_to(root).as_posix()
                    found.append(f"{place}:{node.lineno}: {node.name} has {length} lines")
    return found


@pytest.mark.parametrize("check", [long_files, long_functions])
def test_sizes(check):
    assert check(ROOT) == []


def test_a_long_file_is_found(tmp_path):
    plant(tmp_path, {"pipeline/dsp/x.py": "x = 1\n" * 400, "pipeline/dsp/y.py": "x = 1\n" * 300})
    assert long_files(tmp_path) == ["pipeline/dsp/x.py: 400 lines"]


def test_a_long_function_is_found(tmp_path):
    long = "class A:\n    def f(self):\n" + "        self.x = 1\n" * 60
    documented = 'def f():\n    """One.\n' + "\n" * 100 + '    """\n' + "    x = 1\n" * 59
    plant(tmp_path, {"pipeline/dsp/x.py": long, "pipeline/dsp/y.py": documented})
    assert long_functions(tmp_path) == ["pipeline/dsp/x.py:2: f has 61 lines"]

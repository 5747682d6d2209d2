"""Rules of the house that a linter does not know, or that must hold even where it is told to look away."""

import ast
import re

import pytest

from tests.architecture.source_tree import ROOT, parse, plant, python_files

BROAD = {"Exception", "BaseException"}
VAGUE_NAMES = {"common", "helper", "helpers", "misc", "tools", "util", "utils", "utilities"}
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
TEXT_PLACES = (
    "train.py",
    "Makefile",
    "conf",
    "pipeline",
    "hydra_plugins",
    "containers",
    "slurm",
    "benchmarks",
)
TEXT_FILES = (".py", ".yaml", ".md", ".toml", ".sh", ".def", ".in")


def _names(handler):
    """Names of the exceptions that a handler catches; None for a bare one."""
    caught = handler.type
    if caught is None:
        return {None}
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return {part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "") for part in parts}


def broad_excepts(root):
    """Handlers that catch what cannot be named and do not pass it on unchanged."""
    found = []
    for path in python_files(root):
        for node in ast.walk(parse(path)):
            if not isinstance(node, ast.ExceptHandler) or not _names(node) & {None, *BROAD}:
                continue
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                found.append(f"{path.relative_to(root).as_posix()}:{node.lineno}: broad except")
    return found


def prints(root):
    return [
        f"{path.relative_to(root).as_posix()}:{node.lineno}: print"
        for path in python_files(root)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def vague_names(root):
    places = ("pipeline", "hydra_plugins", "benchmarks", "tests")
    return [
        path.relative_to(root).as_posix()
        for path in python_files(root, places)
        if {path.stem, path.parent.name} & VAGUE_NAMES
    ]


def _texts(root):
    for place in TEXT_PLACES:
        path = root / place
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and (file.suffix in TEXT_FILES or file.name == "Makefile"):
                yield file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")


def unfinished_marks(root):
    return [
        f"{place}:{number}: {line.strip()}"
        for place, text in _texts(root)
        for number, line in enumerate(text.splitlines(), 1)
        if MARKS.search(line)
    ]


def foreign_letters(root):
    return [f"{place}: not ASCII" for place, text in _texts(root) if not text.isascii()]


CHECKS = (broad_excepts, prints, vague_names, unfinished_marks, foreign_letters)


@pytest.mark.parametrize("check", CHECKS)
def test_style(check):
    assert check(ROOT) == []


PLANTED = {
    "bare": (broad_excepts, "pipeline/x.py", "try:\n    f()\nexcept:\n    pass\n"),
    "broad": (broad_excepts, "pipeline/x.py", "try:\n    f()\nexcept Exception as error:\n    g(error)\n"),
    "broad among others": (
        broad_excepts,
        "pipeline/x.py",
        "try:\n    f()\nexcept (OSError, builtins.BaseException):\n    g()\n",
    ),
    "broad, raised as another": (
        broad_excepts,
        "pipeline/x.py",
        "try:\n    f()\nexcept Exception:\n    raise OSError() from None\n",
    ),
    "print": (prints, "pipeline/x.py", "def f():\n    print(1)\n"),
    "vague module": (vague_names, "pipeline/dsp/utils.py", ""),
    "vague package": (vague_names, "pipeline/helpers/stft.py", ""),
    "unfinished": (unfinished_marks, "pipeline/x.py", "x = 1  # TODO: more\n"),
    "unfinished text": (unfinished_marks, "pipeline/x.py", '"""FIXME."""\n'),
    "letters": (foreign_letters, "pipeline/x.py", "# na\u00efve\n"),
}


@pytest.mark.parametrize(("check", "place", "text"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(check, place, text, tmp_path):
    assert len(check(plant(tmp_path, {place: text}))) == 1


def test_clean_text_passes(tmp_path):
    text = "try:\n    f()\nexcept (OSError, ValueError):\n    log()\nexcept BaseException:\n    close()\n    raise\n"
    root = plant(tmp_path, {"pipeline/dsp/stft.py": text + "logger.print(method)\n"})
    assert [line for check in CHECKS for line in check(root)] == []

"""The project's own source files as text and syntax trees, for the checks beside this file.

Every check is a function of a root folder, so that it can be shown to fail on a tree with a planted violation.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("train.py", "pipeline", "hydra_plugins")


def python_files(root: Path, places: tuple[str, ...] = PROGRAM) -> Iterator[Path]:
    """Yields the Python files at the named places below `root`, those that exist."""
    for place in places:
        path = root / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields (dotted module, line) of every import, inside functions and `if` branches too.

    `from a.b import c` yields `a.b.c`, since `c` may be a module. A relative import keeps its dots.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def plant(root: Path, files: dict[str, str]) -> Path:
    """Writes a small tree below `root`, given as path -> content, and returns `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root

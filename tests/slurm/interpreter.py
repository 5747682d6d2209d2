"""An interpreter for an ordinary user, where that of the tests lies in a closed home."""

import shutil
import sys
from pathlib import Path


def reachable_python(folder: Path, packages: Path, *, is_copied: bool) -> Path:
    """Return an interpreter that every user may run, with these packages and no others.

    Args:
        folder: for a copy of this interpreter.
        packages: a site-packages.
        is_copied: whether users may not read the packages where they are.
    """
    base, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    skipped = shutil.ignore_patterns("site-packages", "test", "idlelib", "__pycache__", "config-*")
    shutil.copytree(base / "lib" / version, folder / "lib" / version, ignore=skipped, symlinks=True)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, folder / "lib")
    (folder / "bin").mkdir()
    shutil.copy(base / "bin" / version, folder / "bin")
    if is_copied:
        shutil.copytree(packages, folder / "lib" / version / "site-packages")
    else:
        (folder / "lib" / version / "site-packages").symlink_to(packages)
    program = folder / "python"
    program.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={folder / 'lib'} PYTHONHOME={folder}\n"
        f'exec {folder / "bin" / version} "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program

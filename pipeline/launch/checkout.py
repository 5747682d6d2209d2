"""What git says about a checkout, whatever its user has set git to: the commit, and what differs from it."""

import os
import subprocess
from hashlib import sha256
from pathlib import Path

_TIMEOUT_S = 20
_CODE = ("*.py", "*.yaml", "*.sh")
_FOLDERS = ("conf", "pipeline", "hydra_plugins", "slurm")
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
_GLOBAL = (
    "--no-optional-locks",  # a job that asks is in nobody's way who commits
    "-c",
    "safe.directory=*",  # a group's checkout belongs to one of them; its code is run here all the same
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.quotePath=true",
)
_DIFF = (
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--no-relative",
    "--binary",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


def commit(root: Path) -> str | None:
    """Return the commit of a checkout; None where there is no git or no checkout."""
    found = _git(root, "rev-parse", "HEAD")
    return found.strip() if found is not None else None


def changes(root: Path) -> str | None:
    """Return all that `git apply` needs to make of its commit what a checkout holds; None without git.

    Code that was never added to git is part of it. Bytes that are no UTF-8 are surrogate escapes.
    """
    tracked = _git(root, *_DIFF, "HEAD")
    patterns = [f":(glob){folder}/**/{pattern}" for folder in _FOLDERS for pattern in _CODE]
    listed = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *patterns)
    if tracked is None or listed is None:
        return None
    names = sorted(filter(None, listed.split("\0")))
    return tracked + "".join(_git(root, *_DIFF, "--no-index", "--", os.devnull, name) or "" for name in names)


def diff_digest(diff: str | None) -> str | None:
    """Return what tells uncommitted changes from others; None for none.

    Lines that name git's objects do not count: how many digits they have depends on the clone.
    """
    lines = (diff or "").strip().split("\n")
    text = "\n".join(line for line in lines if not line.startswith("index "))
    return sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest() if text else None


def _git(root: Path, *arguments: str) -> str | None:
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    try:
        result = subprocess.run(
            ["git", *_GLOBAL, *arguments], cwd=root, env=environment, capture_output=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    has_differences = result.returncode == 1 and "--no-index" in arguments
    if result.returncode != 0 and not has_differences:
        return None
    return result.stdout.decode("utf-8", errors="surrogateescape")

"""What tells the program's code from other code, with git and without."""

from hashlib import sha256
from pathlib import Path

_CODE = ("train.py", "pipeline/**/*.py", "hydra_plugins/**/*.py")


def code_digest(root: Path) -> str:
    """Return the sha256 over the names and contents of the program's files in a checkout."""
    digest = sha256()
    for path in sorted(path for pattern in _CODE for path in root.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()

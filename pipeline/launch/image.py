"""The container image that this process runs in, as far as it can be told from within."""

import json
import os
from pathlib import Path
from typing import Any

IMAGE_FILE = Path("/opt/euler/image.json")
"""What the build of an image writes into it: revision, lock, lock_sha256, torch, python, base."""

_OPENED = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


def image() -> dict[str, Any] | None:
    """Return the image: `path` and `digest` where they are known, and what its build wrote; None outside of any.

    The path comes from EULER_IMAGE, the digest from EULER_IMAGE_DIGEST, which the SLURM launcher sets.
    """
    built = _built()
    opened = next((os.environ[name] for name in _OPENED if os.environ.get(name)), None)
    if built is None and opened is None:
        return None  # EULER_IMAGE on a host names the image of jobs
    path = os.environ.get("EULER_IMAGE") or opened
    return {"path": path, "digest": os.environ.get("EULER_IMAGE_DIGEST") or None, **(built or {})}


def _built() -> dict[str, Any] | None:
    try:
        facts = json.loads(IMAGE_FILE.read_bytes())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None

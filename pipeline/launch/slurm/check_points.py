"""The full check of a launch's points where torch is: in the image, or with the interpreter of the jobs.

`python -m pipeline.launch.slurm.check_points` reads the points from standard input and writes what was found to
standard output, both as JSON; what libraries print goes to standard error.
"""

import json
import os
import sys
from typing import Any

from pipeline.config import schema
from pipeline.errors import PipelineError
from pipeline.launch import preflight, resources


def check(point: dict[str, Any]) -> dict[str, Any]:
    """Check one point.

    Args:
        point: `config`, a settled tree with its GPUs counted, and `given`, the dotted keys that the user wrote.

    Returns:
        `config` as a run keeps it, and `notes`, lines to print.

    Raises:
        PipelineError: anything that the user can mend.
    """
    config = schema.parse(point["config"])
    planned = resources.arrange(config, int(config.trainer.num_gpus))
    checked = preflight.check(config, frozenset(point["given"]), planned, sees_disk=False)
    return {"config": checked.config.model_dump(), "notes": list(checked.notes)}


def main() -> None:
    """Answer for all points; the first that is wrong ends it."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answer:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            found: dict[str, Any] = {"points": [check(point) for point in json.load(sys.stdin)]}
        except PipelineError as error:
            found = {"kind": type(error).__name__, "error": str(error)}
        json.dump(found, answer)


if __name__ == "__main__":
    main()

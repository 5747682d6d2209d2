"""One rank of a run, started by `pipeline.launch.processes`: `python -m pipeline.launch.rank RUN_DIR`."""

import sys
from pathlib import Path

from pipeline.launch import preflight, resume
from pipeline.launch.report import plain_errors
from pipeline.launch.run import train

if __name__ == "__main__":
    with plain_errors():
        train(preflight.check(resume.load(Path(sys.argv[1])), frozenset()))

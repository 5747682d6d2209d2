"""One rank of a run, started by `pipeline.launch.processes`: `python -m pipeline.launch.rank RUN_DIR PARENT BEGAN`."""

import os
import sys
from pathlib import Path

from pipeline.data.lifeline import end_with_parent
from pipeline.launch.preemption import stop_signals

if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    stop_signals.name_run(Path(sys.argv[1]))
    stop_signals.install(  # the imports take seconds
        quiet=os.environ["RANK"] != "0", supervised=True, began_s=float(sys.argv[3])
    )

from pipeline.launch import preflight, resume  # noqa: E402
from pipeline.launch.report import plain_errors  # noqa: E402
from pipeline.launch.run import train  # noqa: E402

if __name__ == "__main__":
    with plain_errors():
        train(preflight.check(resume.load(Path(sys.argv[1])), frozenset()))

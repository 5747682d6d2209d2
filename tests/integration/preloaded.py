"""Runs `train.py` in forks of a process that has torch and Lightning loaded: the same program, seconds sooner.

    python -m tests.integration.preloaded

Reads one JSON request a line from standard input, {"arguments", "environment", "directory", "output"}, and answers
each with a line that holds the exit code. With a key "own_session" the run leads a session of its own, and a line
with its process id comes before that of its exit code. Nothing of torch runs in this process, so that a fork starts no
worse than a fresh process; runs from scratch stand beside it in the tests.
"""

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pipeline.data.datamodule
import pipeline.training.assembly  # noqa: F401
from tests.integration.chaos.observer import chaos_observer

TRAIN = Path(__file__).resolve().parents[2] / "train.py"


def _run(request: dict[str, Any]) -> int:
    """Become the run; returns its exit code."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(number, target)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    sys.argv = [str(TRAIN), *request["arguments"]]
    chaos_observer.watch_if_told()
    chaos_observer.break_if_told()
    try:
        runpy.run_path(str(TRAIN), run_name="__main__")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # what an interpreter says before it ends
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    """Serve requests until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            code = 1
            try:
                if "own_session" in request:
                    os.setsid()
                code = _run(request)
            finally:
                os._exit(code)
        if "own_session" in request:
            sys.stdout.write(f"{child}\n")
            sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Slows a training down, deafens it, or plants a flaw: first on the PYTHONPATH of the jobs of these tests.

Small trainings end before a cluster has done anything to them. Sleeping in every step leaves the processors to others
and changes no number.

    EULER_TEST_SLOW   seconds that every optimiser step takes longer
    EULER_TEST_DEAF   set: no request to stop arrives, so that only SIGKILL ends the process
    EULER_TEST_RAISE  a file; while it exists, a step of the rank whose number it holds raises an error
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_DEAF_TO = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def _hook_steps() -> None:
    """Wait for torch, which a process imports late if at all."""
    while not hasattr(
        module := sys.modules.get("torch.optim.optimizer"), "register_optimizer_step_post_hook"
    ):
        time.sleep(0.01)
    pause_s, flaw = float(os.environ["EULER_TEST_SLOW"]), Path(os.environ["EULER_TEST_RAISE"])

    def after_step(*_: Any) -> None:
        time.sleep(pause_s)
        if flaw.exists() and flaw.read_text(encoding="utf-8").strip() == os.environ["SLURM_PROCID"]:
            raise ValueError("a flaw in the code")

    module.register_optimizer_step_post_hook(after_step)  # type: ignore[union-attr]


def _deafen() -> None:
    original = signal.signal

    def deaf(number: int, handler: Any) -> Any:
        return original(number, signal.SIG_IGN if number in _DEAF_TO else handler)

    for number in _DEAF_TO:
        original(number, signal.SIG_IGN)
    signal.signal = deaf


if "EULER_TEST_SLOW" in os.environ:
    threading.Thread(target=_hook_steps, name="slow", daemon=True).start()
if os.environ.get("EULER_TEST_DEAF"):
    _deafen()
if os.environ.get("EULER_CHAOS_STAGES"):
    import chaos_observer

    chaos_observer.watch_if_told()

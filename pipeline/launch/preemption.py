"""Signals that ask a run to stop, and the exit code that asks for it to be started again.

SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 mean the same: save, end with RESUME_EXIT_CODE. During training they set a flag,
which the loop reads between steps; before training there is nothing to save and the process ends at once.
"""

import atexit
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipeline.launch.command import train_command

RESUME_EXIT_CODE = 75
"""Saved, or nothing to save yet: start me again and I go on (EX_TEMPFAIL of sysexits.h)."""

STALLED_EXIT_CODE = 76
"""What a rank whose job hangs tells the process that supervises it, which ends with RESUME_EXIT_CODE then."""

ABORT_EXIT_CODE = 130
"""Stopped at once by a second SIGINT: 128 + 2, as a shell says it."""

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """What the signals of this process have asked for.

    Attributes:
        received: name of the first signal, None before one came.
        began_s: `time.monotonic()` at the start of the job, from which `max_time` counts.
        has_saved: whether training has stopped before its end, and all that was trained is saved.
    """

    def __init__(self) -> None:
        self.has_saved = False
        self.began_s = 0.0
        self.received: str | None = None
        self._interrupts = 0
        self._deferred: str | None = None
        self._before_abort: Callable[[], None] | None = None
        self._run_dir: Path | None = None
        self._owner = 0
        self._quiet = self._supervised = self._had_job = False

    def install(self, *, quiet: bool = False, supervised: bool = False, began_s: float | None = None) -> None:
        """Handle the signals from now on; a second call puts back handlers that a library has replaced.

        Args:
            quiet: say nothing; another process of the run speaks for this one.
            supervised: another process takes the signals, says what they mean and passes them on. This one takes no
                SIGINT, which a terminal sends to all processes of a command, and announces nothing in training.
            began_s: `time.monotonic()` at the start of the job, on the clock that a host's processes share; None: now.
        """
        self.began_s = time.monotonic() if began_s is None else began_s
        self._owner, self._quiet, self._supervised = os.getpid(), quiet, supervised
        for number in _STOP:
            ignored = supervised and number == signal.SIGINT
            signal.signal(number, signal.SIG_IGN if ignored else self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        atexit.unregister(self._end)
        atexit.register(self._end)

    @property
    def is_supervised(self) -> bool:
        """Whether another process of this project has started this one and waits for it."""
        return self._supervised

    @property
    def has_ended_start_up(self) -> bool:
        """Whether a signal came before training: the process ends, whatever it meets on its way out."""
        return self.received is not None and self._deferred is None

    def begin_start_up(self) -> None:
        """From now on, until `begin_training`, a signal ends the process at once: a job starts.

        The first job of a process that has installed the handlers began with the process. Another job of a sweep, and
        one that a launcher has sent to a process of its own (with handlers of its own), begins now.

        Raises:
            SystemExit: a signal came while the job before was ending.
        """
        self._deferred = self._before_abort = self._run_dir = None
        self.has_saved = False
        if self.received is not None:
            raise SystemExit(RESUME_EXIT_CODE)
        began_with_process = self._owner == os.getpid() and not self._had_job
        self._had_job = True
        self.install(began_s=self.began_s if began_with_process else None)

    def name_run(self, run_dir: Path) -> None:
        """Name the run directory that a stop before training leaves behind, for the line that says how to go on."""
        self._run_dir = run_dir

    def begin_training(self) -> None:
        """From now on a signal only sets `received`.

        Raises:
            SystemExit: a signal came before, and something has swallowed the exit that it asked for.
        """
        self.defer("saving after this step; a second SIGINT stops at once")

    def defer(self, meaning: str, before_abort: Callable[[], None] | None = None) -> None:
        """From now on a signal only sets `received`, and one line says what that means.

        Args:
            meaning: what happens next.
            before_abort: called before a second SIGINT ends the process.

        Raises:
            SystemExit: a signal came before.
        """
        self._deferred, self._before_abort = meaning, before_abort
        if self.received is not None:
            raise SystemExit(RESUME_EXIT_CODE)

    def _end(self) -> None:
        """From now on a signal does nothing: this process ends, and its exit code says all.

        The interpreter takes a second to end, and would put back the handlers of the system, which kill it; not these.
        """
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a fork without handlers of its own yet; its parent decides for it
            return
        name = signal.Signals(number).name
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            self._say("second SIGINT: stopped at once, nothing more is saved")
            if self._before_abort is not None:
                self._before_abort()
            os._exit(ABORT_EXIT_CODE)
        if self.received is not None:  # schedulers repeat themselves
            return
        self.received = name
        if self._deferred is not None:
            if not self._supervised:
                self._say(f"{name} received: {self._deferred}")
            return
        command = "with the same command"
        if self._run_dir is not None:
            command = f"with: {train_command(f'run.resume={self._run_dir}')}"
        self._say(f"stopped by {name} before training began; nothing to save; start again {command}")
        raise SystemExit(RESUME_EXIT_CODE)

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        try:  # past loggers and streams, which a handler may have interrupted
            os.write(2, f"{line}\n".encode())
        except OSError:  # nobody listens any more
            return


stop_signals = StopSignals()
"""The one of this process."""

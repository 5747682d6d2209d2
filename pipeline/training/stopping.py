"""Why a run is to stop before its horizon: a signal, or the end of the time it may take."""

import time
from collections.abc import Callable

_UNKNOWN_SAVE_S = 10.0
_LARGEST_SHARE = 0.25


class StopConditions:
    """Tells after each step whether the run is to save and stop.

    Args:
        signal: returns the name of the signal that came, or None.
        max_time_s: seconds that this process may run in all, saving included; None is no limit.
        began_s: `time.monotonic()` of its start.
    """

    def __init__(self, signal: Callable[[], str | None], max_time_s: float | None, began_s: float) -> None:
        self._signal = signal
        self._max_time_s = max_time_s
        self._began_s = began_s
        self._last_s: float | None = None
        self._slowest_step_s = 0.0

    def reason(self, slowest_save_s: float) -> str | None:
        """Return why to stop now, or None.

        Args:
            slowest_save_s: the longest save so far, 0 before the first.
        """
        now = time.monotonic()
        if self._last_s is not None:
            self._slowest_step_s = max(self._slowest_step_s, now - self._last_s)
        self._last_s = now
        name = self._signal()
        if name is not None:
            return f"{name} received"
        if self._max_time_s is None:
            return None
        needed = 2 * (slowest_save_s or _UNKNOWN_SAVE_S) + 2 * self._slowest_step_s
        spare = min(needed, _LARGEST_SHARE * self._max_time_s)
        if now - self._began_s < self._max_time_s - spare:
            return None
        return f"trainer.trainer.max_time of {self._max_time_s:g} s is nearly over"

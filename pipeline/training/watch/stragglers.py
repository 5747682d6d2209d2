"""Which rank makes the others wait: each measures its own part of a step, in which nothing waits for another rank."""

import statistics
import time
from collections import deque
from collections.abc import Sequence

import torch

from pipeline.training.watch.pulse import Pulse

_STEPS = 50
_SLOWER = 1.2
_LEAST_DIFFERENCE_MS = 2.0
_STEPS_BETWEEN_REPORTS = 500


class OwnShare:
    """Time from the end of what follows a batch to the start of its successor's backward pass: data and forward pass.

    On a GPU it is measured by events in the stream and read when they have passed, so that nothing waits for it; data
    that was ready before the GPU was costs nothing there.

    Args:
        use_gpu: measure in the stream of the current GPU.
    """

    def __init__(self, use_gpu: bool) -> None:
        self._use_gpu = use_gpu
        self._began: float | torch.cuda.Event | None = None
        self._began_s = 0.0
        self._waited_ms = 0.0
        self._parts: list[float | tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._unread: deque[tuple[list[float | tuple[torch.cuda.Event, torch.cuda.Event]], float]] = deque()
        self._steps: deque[tuple[float, float]] = deque(maxlen=_STEPS)  # milliseconds: all, waiting for data

    def begin(self) -> None:
        """A batch is asked for."""
        self._began_s = time.perf_counter()
        self._began = self._mark()

    def note_data(self) -> None:
        """The batch is there."""
        if self._began is not None:
            self._waited_ms += 1000 * (time.perf_counter() - self._began_s)

    def end(self) -> None:
        """Its backward pass begins."""
        began, self._began = self._began, None
        if isinstance(began, torch.cuda.Event):
            ended = self._mark()
            assert isinstance(ended, torch.cuda.Event)
            self._parts.append((began, ended))
        elif began is not None:
            self._parts.append(1000 * (time.perf_counter() - began))

    def close_step(self) -> None:
        """All batches of an optimiser step are behind."""
        if self._parts:
            self._unread.append((self._parts, self._waited_ms))
        self._parts, self._waited_ms = [], 0.0
        while self._unread and all(_has_passed(part) for part in self._unread[0][0]):
            parts, waited_ms = self._unread.popleft()
            self._steps.append((sum(map(_milliseconds, parts)), waited_ms))

    @property
    def medians_ms(self) -> tuple[float, float] | None:
        """Medians over the newest 50 steps, in milliseconds: all, and waiting for data; None before there are 50."""
        steps = list(self._steps)
        if len(steps) < _STEPS:
            return None
        return statistics.median(all_ms for all_ms, _ in steps), statistics.median(wait for _, wait in steps)

    def _mark(self) -> "float | torch.cuda.Event":
        if not self._use_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _has_passed(part: float | tuple[torch.cuda.Event, torch.cuda.Event]) -> bool:
    return isinstance(part, float) or part[1].query()


def _milliseconds(part: float | tuple[torch.cuda.Event, torch.cuda.Event]) -> float:
    return part if isinstance(part, float) else float(part[0].elapsed_time(part[1]))


class StragglerReport:
    """Names ranks whose own part of a step takes 20 % longer than that of the median rank."""

    def __init__(self) -> None:
        self._reported: dict[int, int] = {}  # rank -> step

    def lines(self, pulses: Sequence[Pulse]) -> list[str]:
        """Return a line for each straggler that was not named in the newest 500 steps.

        Args:
            pulses: of all ranks.
        """
        known = [(pulse, pulse.share_ms) for pulse in pulses if pulse.share_ms is not None]
        if len(known) < len(pulses) or len(pulses) < 2:
            return []
        usual = statistics.median_low(share for _, share in known)
        found = []
        for pulse, share in known:
            step = pulse.place.step
            is_slow = share > _SLOWER * usual and share - usual > _LEAST_DIFFERENCE_MS
            is_new = (
                pulse.rank not in self._reported
                or step - self._reported[pulse.rank] >= _STEPS_BETWEEN_REPORTS
            )
            if is_slow and is_new:
                self._reported[pulse.rank] = step
                waits = (
                    f", {pulse.wait_ms:.1f} ms of it waiting for data" if pulse.wait_ms is not None else ""
                )
                found.append(
                    f"rank {pulse.rank} ({pulse.host}) is slow and makes the others wait: {share:.1f} ms from one step "
                    f"to the next backward pass (median of {_STEPS} steps up to {step}{waits}), the median rank "
                    f"{usual:.1f} ms"
                )
        return found

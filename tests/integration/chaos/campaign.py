"""Runs many cases: those of one process side by side, those of several ranks one after the other."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from tests.integration.chaos import table
from tests.integration.chaos.case import CaseRun, run_baseline
from tests.integration.chaos.configurations import SAVING, Configuration
from tests.integration.chaos.outcome import Result
from tests.integration.chaos.plan import WRITE, Case, draw_writes
from tests.integration.chaos.session import Preloaded

_MOST_ATTEMPTS = 4
_log = logging.getLogger("chaos")
Given = TypeVar("Given")
Made = TypeVar("Made")


class Campaign:
    """Cases in one folder, with their uninterrupted runs.

    Args:
        folder: for all of it.
        cache: where the audio is, or is generated once.
        lanes: how many single processes run side by side.
    """

    def __init__(self, folder: Path, cache: Path, lanes: int) -> None:
        self._folder, self._cache, self._lanes = folder, cache, lanes
        self._baselines: dict[str, Path] = {}
        self._servers: list[Preloaded] = []
        self._idle: SimpleQueue[Preloaded] = SimpleQueue()

    def run(self, cases: Iterable[Case]) -> list[Result]:
        """Run cases, and print a row for each."""
        cases = list(cases)
        self._train_baselines(case.configuration for case in cases)
        _log.info("%s", table.HEADING)
        alone = [case for case in cases if case.configuration.is_parallel]
        beside = [case for case in cases if not case.configuration.is_parallel]
        results = _run_all(self._run_case, alone, 1) + _run_all(self._run_case, beside, self._lanes)
        return sorted(results, key=lambda result: result.case.number)

    def run_writes(self, count: int, seed: int) -> list[Result]:
        """Run cases until `count` kills fell into a checkpoint's write."""
        self._train_baselines(SAVING)
        _log.info("%s", table.HEADING)
        results: list[Result] = []
        number = 0
        while sum(hit.place == WRITE for result in results for hit in result.hits) < count:
            cases = [draw_writes(number + offset, seed) for offset in range(1, self._lanes + 1)]
            number += self._lanes
            alone = any(case.configuration.is_parallel for case in cases)
            results += _run_all(self._run_case, cases, 1 if alone else self._lanes)
            if not all(result.is_equal for result in results):
                break
        return results

    def close(self) -> None:
        """End the servers that fork the runs."""
        for server in self._servers:
            server.close()

    def _train_baselines(self, configurations: Iterable[Configuration]) -> None:
        missing = {c.name: c for c in configurations if c.name not in self._baselines}
        if not missing:
            return
        first, *others = missing.values()
        _log.info("the uninterrupted runs, from scratch: %s ...", ", ".join(c.name for c in (first, *others)))
        self._train_baseline(first)  # alone: it generates the audio
        singles = [configuration for configuration in others if not configuration.is_parallel]
        _run_all(self._train_baseline, singles, self._lanes)
        _run_all(self._train_baseline, [c for c in others if c.is_parallel], 1)

    def _train_baseline(self, configuration: Configuration) -> None:
        folder = self._folder / f"uninterrupted-{configuration.name}"
        self._baselines[configuration.name] = run_baseline(configuration.arguments, folder, self._cache)

    def _run_case(self, case: Case) -> Result:
        """Run a case; where it ended before any blow fell, try again with earlier ones."""
        server = self._take_server()
        baseline = self._baselines[case.configuration.name]
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            folder = self._folder / f"case-{case.number:03d}-{attempt}"
            result = CaseRun(case, folder, baseline, self._cache, server).run()
            if result.hits or not result.is_equal:
                break
            result.verdict = "no blow fell"
            strikes = [
                replace(strike, occurrence=max(1, strike.occurrence // 2), delay_s=strike.delay_s / 2)
                for strike in case.strikes
            ]
            case = replace(case, strikes=tuple(strikes))
        self._idle.put(server)
        _log.info("%s", table.row(result))
        return result

    def _take_server(self) -> Preloaded:
        try:
            return self._idle.get_nowait()
        except Empty:
            self._servers.append(Preloaded())
            return self._servers[-1]


def _run_all(work: Callable[[Given], Made], items: Iterable[Given], lanes: int) -> list[Made]:
    with ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(work, items))

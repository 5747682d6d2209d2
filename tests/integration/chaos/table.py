"""What the cases showed: a row each, a summary, and one line that says it all."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.chaos.outcome import Hit, Result
from tests.integration.chaos.plan import CATEGORIES, WRITE

HEADING = (
    f"{'case':>4}  {'run':<20} {'started':<8} {'resumed by':<12} {'struck at (who: place, step, steps lost)':<78} "
    f"{'restarts':>8}  {'s':>5}  verdict"
)


def row(result: Result) -> str:
    """Return the row of a case."""
    case = result.case
    started = "forked" if case.is_forked else "scratch"
    blows = "; ".join(_blow(hit) for hit in result.hits[:4])
    if len(result.hits) > 4:
        blows += f"; {len(result.hits)} in all"
    return (
        f"{case.number:>4}  {case.configuration.name:<20} {started:<8} {case.resume:<12} {blows:<78} "
        f"{result.restarts:>8}  {result.seconds:>5.1f}  {result.verdict}"
    )


def _blow(hit: Hit) -> str:
    signal_name = "" if hit.strike.is_kill else f"{hit.strike.number.name} "
    step = "" if hit.step < 0 else f" {hit.step}"
    lost = "" if hit.lost is None else f" -{hit.lost}"
    return f"{signal_name}{hit.strike.how}: {hit.place}{step}{lost}"


def summary(results: Sequence[Result]) -> list[str]:
    """Return how many blows fell where, on one process and on several."""
    counts = {1: Counter[str](), 2: Counter[str](), 4: Counter[str]()}
    for result in results:
        counts[result.case.configuration.num_processes].update(hit.place for hit in result.hits)
    places = list(dict.fromkeys([*CATEGORIES, *(place for count in counts.values() for place in count)]))
    lines = [f"{'place':<16}{'1 process':>12}{'2 ranks':>12}{'4 ranks':>12}"]
    lines += [
        f"{place:<16}" + "".join(f"{count[place]:>12}" for count in counts.values()) for place in places
    ]
    lost = [hit.lost for result in results for hit in result.hits if hit.lost is not None]
    if lost:
        lines.append(f"steps lost: at most {max(lost)}, {sum(lost) / len(lost):.1f} on average")
    return lines


def missing(results: Sequence[Result]) -> list[str]:
    """Return the categories in which no kill fell, of those for one process and those for two."""
    found = []
    for num_processes in sorted({result.case.configuration.num_processes for result in results}):
        fell = {
            hit.place
            for result in results
            if result.case.configuration.num_processes == num_processes
            for hit in result.hits
        }
        found += [f"{place} ({num_processes} process(es))" for place in CATEGORIES if place not in fell]
    return found


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write the table as JSON."""
    path.write_text(json.dumps([_plain(result) for result in results], indent=1) + "\n", encoding="utf-8")


def _plain(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "number": case.number,
        "configuration": case.configuration.name,
        "processes": case.configuration.num_processes,
        "from_scratch": not case.is_forked,
        "resume": case.resume,
        "strikes": [
            {
                "signal": hit.strike.number.name,
                "who": hit.strike.how,
                "aimed_at": hit.strike.stage,
                "fell": hit.place,
                "step": hit.step,
                "steps_lost": hit.lost,
            }
            for hit in result.hits
        ],
        "restarts": result.restarts,
        "seconds": round(result.seconds, 1),
        "verdict": result.verdict,
        "details": "" if result.is_equal else result.details,
    }


def judge(results: Sequence[Result], is_broken: bool, needs_all_places: bool) -> tuple[bool, str]:
    """Return whether all went as promised, and the line that says so.

    Args:
        results: of all cases.
        is_broken: the resume was broken on purpose, and every comparison has to fail.
        needs_all_places: a kill has to fall into every one of CATEGORIES.
    """
    total, equal = len(results), sum(result.is_equal for result in results)
    if is_broken:
        seen = sum(result.verdict == "differs" for result in results)
        return seen == total, f"{seen} of {total} broken resumes were seen by the checker"
    graceful = [result for result in results if any(not hit.strike.is_kill for hit in result.hits)]
    if graceful:
        whole = sum(result.is_equal for result in graceful)
        return whole == total, f"{equal} of {total} equal; 0 steps lost or repeated in {whole} of {total}"
    line = f"{equal} of {total} equal"
    writes = sum(hit.place == WRITE for result in results for hit in result.hits)
    if writes:
        stuck = sum(result.verdict not in ("equal", "differs") for result in results)
        line += f"; {writes} kills fell into a checkpoint's write, {stuck} runs need a hand"
    if needs_all_places and (absent := missing(results)):
        return False, f"{line}; no kill fell into: {', '.join(absent)}"
    return equal == total, line

"""`run.resume=auto`: the run that this very command has begun, if there is one."""

import logging
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.errors import ConfigError, LaunchError
from pipeline.launch import directory, lock, resume
from pipeline.launch.identity import identity_difference

_log = logging.getLogger(__name__)
_BROKEN = "cannot be continued"


def find_run(wanted: Config, sweep_dir: Path | None) -> Path | None:
    """Return the run to go on with and say why it is the one; None to begin one.

    A chosen `run.dir` (or the directory of a sweep's job) is the run, if it holds one. Otherwise it is the newest of
    the same name and configuration in which nobody trains.

    Args:
        wanted: the checked configuration.
        sweep_dir: directory of this job when it is one point of a sweep.
    """
    chosen = directory.chosen_directory(wanted, sweep_dir)
    if chosen is not None:
        if (chosen / "config.yaml").is_file():
            _log.info("run.resume=auto: goes on with the run in %s", chosen)
            return chosen
        _log.info("run.resume=auto: no run in %s yet, begins it", chosen)
        return None
    root = directory.runs_root(wanted.run.name)
    records = sorted(root.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    reasons = []
    for record in records:
        reason = _why_not(record.parent, wanted)
        if reason is None:
            _log.info("run.resume=auto: goes on with the run in %s", record.parent)
            return record.parent
        if reason.startswith(_BROKEN):
            _log.info("note: run.resume=auto: passes over %s, which %s", record.parent, reason)
        reasons.append(f"{record.parent.name} {reason}")
    newest = f" (the newest, {reasons[0]})" if reasons else ""
    _log.info("run.resume=auto: no run in %s to go on with%s, begins one", root, newest)
    return None


def _why_not(run_dir: Path, wanted: Config) -> str | None:
    try:
        other = identity_difference(resume.load(run_dir), wanted)
        owner = None if other else lock.living_owner(run_dir)
    except (ConfigError, LaunchError) as error:
        return f"{_BROKEN}: {error}"
    if other is not None:
        return f"differs in {other}"
    return None if owner is None else f"is being trained by {owner}"

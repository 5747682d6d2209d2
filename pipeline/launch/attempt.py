"""What each start of a run adds to `provenance.json`; a new beginning replaces what it is made of, too."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import compose
from pipeline.config.atomic import write_text
from pipeline.data.corpus import Corpus
from pipeline.launch import data_record
from pipeline.launch.data_reading import DataReading
from pipeline.launch.directory import RunDirectory
from pipeline.launch.identity import differences, is_changeable
from pipeline.launch.preflight import Preflight
from pipeline.launch.provenance import PROVENANCE, describe_now, keep_diff, read_provenance
from pipeline.launch.sessions import record_session

if TYPE_CHECKING:
    from pipeline.training.start import Start

_SLURM = {
    "job": "SLURM_JOB_ID",
    "array_job": "SLURM_ARRAY_JOB_ID",
    "array_task": "SLURM_ARRAY_TASK_ID",
    "cluster": "SLURM_CLUSTER_NAME",
    "partition": "SLURM_JOB_PARTITION",
    "nodes": "SLURM_JOB_NODELIST",
    "tasks": "SLURM_NTASKS",
}


def record_attempt(
    run: RunDirectory, checked: Preflight, corpus: Corpus, start: "Start"
) -> tuple[list[str], DataReading]:
    """Append this start to the run's records; the first rank calls it.

    Args:
        run: the run directory.
        checked: the configuration that the ranks train with.
        corpus: their audio.
        start: what training starts from.

    Returns:
        A line if the start differs from those before it in what decides how numbers are rounded, else none; and what
        reads the audio, where that takes longer, and completes the record.
    """
    reading = DataReading(run.path, corpus, Path(checked.config.data.cache_dir).expanduser())
    corpus = reading.begin()
    facts, diff = describe_now()
    data = data_record.describe(corpus)
    resources, step = checked.resources, start.step or 0
    more = {
        **facts["git"],
        "image": facts["image"],
        "lock": facts["lock"],
        "packages_sha256": _digest(facts["packages"]),
        "variables": facts["variables"],
        "data_sha256": data["sha256"],
        "strategy": checked.config.trainer.strategy,
        "form": str(checked.form),
        "num_nodes": resources.num_nodes,
        "batch_size": resources.batch_size,
        "accumulate": resources.accumulate,
        "changes": _changes(run, checked),
        "command": list(sys.orig_argv),
        "slurm": _slurm(),
    }
    session, notes = record_session(run.path, resources.world_size, resources.use_gpu, step, more)
    record = read_provenance(run.path)
    if record is not None:  # one that is lost or damaged decides nothing
        if step == 0:
            data_record.write(run.path, data_record.files_of(corpus))
            keep_diff(run.path, diff)
            record |= facts | {"data": data, "init_from": _describe_weights(start.weights)}
        record["attempts"] = [*record.get("attempts", []), session]
        write_text(run.path / PROVENANCE, json.dumps(record, indent=2) + "\n")
    reading.go_on()
    return notes, reading


def _changes(run: RunDirectory, checked: Preflight) -> dict[str, Any]:
    """Return what earlier resumes and this one have changed in the run's configuration."""
    stored = compose.read(run.config_file)
    return {key: new for key, _, new in differences(stored, checked.config) if is_changeable(key)}


def _slurm() -> dict[str, Any] | None:
    """Return the job and how often it was started again; None outside of SLURM."""
    if not os.environ.get("SLURM_JOB_ID"):
        return None
    found = {name: os.environ[source] for name, source in _SLURM.items() if os.environ.get(source)}
    restart = os.environ.get("EULER_RESTART") or os.environ.get("SLURM_RESTART_COUNT") or "0"
    return {**found, "restart": int(restart) if restart.isdecimal() else restart}


def _describe_weights(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    return {"path": str(path), "sha256": file_digest(path)}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file of any size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

"""Weights & Biases: one run by a stable id, however often it is resumed, online or offline."""

import logging
import os
import secrets
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning_utilities.core.rank_zero import rank_zero_only
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

from pipeline.errors import ConfigError
from pipeline.training.logs.base import Mark, RunLog, disk_errors
from pipeline.training.logs.wandb_rows import Row, RowFile, split
from pipeline.training.logs.wandb_segments import mend, row_numbers, segments, wait_for_writers

_STEP = "trainer/global_step"
_FLUSH_S = 1.0  # wandb's own 15 s leave more to repeat after a kill
_MEDIA = {"audio": wandb.Audio, "picture": wandb.Image}
_GONE = (ConnectionError, HandleAbandonedError, MailboxClosedError, wandb.errors.CommError)

_log = logging.getLogger(__name__)


class WandbLog(RunLog):
    """The run at Weights & Biases; without an API key it is kept for `wandb sync`.

    Args:
        run_dir: the run; `wandb/` in it is wandb's.
        project: project at Weights & Biases.
        name: name of the run there.
        mark: number of the first row after the checkpoint that the run continues from, or None where it does not say.
        resumed_step: optimiser steps of that checkpoint; None begins again with the first row.

    Raises:
        ConfigError: wandb cannot reach or does not accept the run.
    """

    def __init__(
        self, run_dir: Path, project: str, name: str, mark: Mark | None, resumed_step: int | None
    ) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._rows = RowFile(run_dir / "wandb" / "rows.jsonl")
        self._is_gone = (
            False  # wandb's own process, which a scheduler may have ended with all others of the job
        )
        self._run: wandb.Run
        self._start(project, name, mark, resumed_step)

    @property
    def name(self) -> str:
        """Name of the log."""
        return "wandb"

    @rank_zero_only
    def _start(self, project: str, name: str, mark: Mark | None, resumed_step: int | None) -> None:
        place, online = self._run_dir / "wandb", wandb_is_online()
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
            identity = _run_id(place)
            wait_for_writers(place)
            found = {path.parent.name: row_numbers(path) for path in segments(place)}
        self._run = _begin(self._run_dir, identity, project, name, online)
        with self._connection():
            self._run.define_metric(_STEP)
            self._run.define_metric("*", step_metric=_STEP, step_sync=True)
        self._segment = Path(self._run.dir).parent.name
        num_sent = self._run.starting_step if online else 0

        def is_there(row: Row) -> bool:
            if online and not row.segment.startswith("offline-"):
                return row.number < num_sent  # what was on disk may not have been sent
            if row.segment not in found:
                return True  # uploaded and cleared away
            return row.number in found[row.segment]

        def is_marked(row: Row) -> bool:
            return resumed_step is not None and (
                row.step <= resumed_step if mark is None else row.number < mark["rows"]
            )

        there, lost = split(self._rows.read(), is_there, is_marked)
        lost = [replace(row, segment=self._segment) for row in lost]
        self._rows.replace([*there, *lost])
        self._known = {row.key for row in there}
        self._next = max([num_sent, *(row.number + 1 for row in (*there, *lost))])
        with disk_errors(place):
            for path in segments(place):
                if path.parent.name != self._segment:
                    mend(path)
        for row in lost:
            self._send(row)

    def _add(self, step: int, metrics: dict[str, float], media: list[list[str]]) -> None:
        """Log a row unless an earlier start of the run did, after the checkpoint that this one continues from."""
        row = Row(self._next, step, metrics, media, self._segment)
        if row.key in self._known:
            return
        self._next += 1
        self._rows.append(row)
        self._send(row)

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Let the run outlive wandb's process: what gets lost is in the file of rows, for the next start."""
        try:
            yield
        except _GONE as error:
            if not self._is_gone:
                _log.warning(
                    "note: the process of Weights & Biases has ended (%s); what it lacks is logged there when the "
                    "run is resumed",
                    str(error) or type(error).__name__,
                )
            self._is_gone = True

    def _send(self, row: Row) -> None:
        if self._is_gone:
            return
        values: dict[str, Any] = {_STEP: row.step, **row.metrics}
        with disk_errors(self._run_dir / "wandb"), self._connection():
            for kind, name, place in row.media:
                if (self._run_dir / place).exists():  # a run may be copied without its media
                    values[name] = [_MEDIA[kind](str(self._run_dir / place))]
            self._run.log(values, step=row.number, commit=True)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log one row."""
        self._add(step or 0, metrics, [])

    @rank_zero_only
    def log_audio(self, name: str, path: Path, samples: np.ndarray, sample_rate_hz: int, step: int) -> None:
        """Log the audio file."""
        self._add(step, {}, [["audio", name, os.path.relpath(path, self._run_dir)]])

    @rank_zero_only
    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Log a PNG file."""
        self._add(step, {}, [["picture", name, os.path.relpath(path, self._run_dir)]])

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Show the configuration beside the run."""
        with self._connection():
            self._run.config.update(params, allow_val_change=True)

    def mark(self) -> Mark:
        """Put the rows on disk and return the number of the next one."""
        self._rows.sync()
        return {"rows": self._next}

    @rank_zero_only
    def close(self, failed: bool) -> None:
        """Let wandb write and send all, and end its process."""
        with self._connection():
            self._run.finish(exit_code=int(failed))
        with self._connection():
            wandb.teardown()  # at the end of Python it would be too late to catch an error


def _begin(run_dir: Path, identity: str, project: str, name: str, online: bool) -> wandb.Run:
    # A process of wandb that the run has inherited would outlive it, and would keep its id when it is killed.
    os.environ.pop("WANDB_SERVICE", None)
    try:
        run = wandb.init(
            dir=run_dir,
            id=identity,
            resume="allow",
            project=project,
            name=name,
            mode="disabled"
            if os.environ.get("WANDB_MODE") == "disabled"
            else "online"
            if online
            else "offline",
            settings=wandb.Settings(silent=True, x_transaction_log_flush_interval=_FLUSH_S),
        )
    except wandb.errors.Error as error:
        raise ConfigError(
            f"trainer.wandb.use_wandb: Weights & Biases does not take run {identity} of project {project}: {error}; "
            "set WANDB_MODE=offline to log without it, or trainer.wandb.use_wandb=false"
        ) from error
    return run


def _run_id(wandb_dir: Path) -> str:
    """Return the run's id, which is drawn once; a run from before ids were kept has that of its segments."""
    place = wandb_dir / "id"
    if not place.exists():
        earlier = segments(wandb_dir)
        identity = earlier[-1].stem.removeprefix("run-") if earlier else secrets.token_hex(4)
        fresh = wandb_dir / ".id.tmp"
        fresh.write_text(identity, encoding="utf-8")
        fresh.replace(place)
    return place.read_text(encoding="utf-8").strip()


def wandb_is_online() -> bool:
    """Tell whether an API key is there; without one runs are logged offline instead of asking for it."""
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"] == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        machines = netrc().hosts
    except (OSError, NetrcParseError):
        return False
    return any("wandb" in host for host in machines)

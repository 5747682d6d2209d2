"""Reading what the audio of a run holds, beside its training, for `data.jsonl`; the training depends on none of it."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.config.atomic import write_text
from pipeline.data.contents import Contents
from pipeline.data.corpus import Corpus
from pipeline.errors import LaunchError
from pipeline.launch import data_record
from pipeline.launch.provenance import PROVENANCE, read_provenance

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0
_POLL_S = 0.2
_REPORT_EVERY_S = 10.0


class DataReading:
    """A thread that reads the audio of a run, and completes the record of the run when it is through.

    It is one thread of the lowest priority, and reads one file at a time: above 4 GiB the beginnings, middles and ends
    of large files alone. A run that ends early goes on with it when it is resumed.

    Args:
        run_dir: the run; the caller holds its lock.
        corpus: its audio.
        cache_dir: where digests are remembered, so that a second run reads nothing.
    """

    def __init__(self, run_dir: Path, corpus: Corpus, cache_dir: Path) -> None:
        self._run_dir = run_dir
        self._corpus = corpus
        self._contents = Contents((corpus.train, corpus.evaluation), cache_dir)
        self._is_read, self._may_record = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="data-reading", daemon=True)

    def begin(self) -> Corpus:
        """Begin, and return the audio with what is known of it soon: a small folder is read at once."""
        if self._contents.missing:
            self._thread.start()
            self._is_read.wait(_PATIENCE_S)
        else:
            self._is_read.set()
        return self._filled()

    def go_on(self) -> None:
        """From now on the record of the run, which is written, may be completed."""
        self._may_record.set()
        if not self._thread.is_alive():
            self._record()
        elif self._is_read.is_set():
            self._thread.join()
        else:
            _log.info("the content of %d audio files is read beside training", len(self._contents.missing))

    def finish(self, is_stopped: Callable[[], bool]) -> None:
        """Wait until all is read and recorded, and say what is not.

        Args:
            is_stopped: whether to wait no longer.
        """
        next_report_s = time.monotonic()
        while self._thread.is_alive() and not is_stopped():
            if time.monotonic() >= next_report_s:
                left = len(self._contents.missing)
                _log.info("reading the content of %d more audio files for %s", left, data_record.DATA)
                next_report_s += _REPORT_EVERY_S
            self._thread.join(_POLL_S)
        if left := len(self._contents.missing):
            _log.warning(
                "the content of %d audio files was not read, or they have changed since the start: make reproduce "
                "cannot compare it",
                left,
            )

    def _work(self) -> None:
        self._contents.read_beside()
        self._is_read.set()
        self._may_record.wait()
        self._record()

    def _filled(self) -> Corpus:
        train, evaluation = self._corpus.train, self._corpus.evaluation
        return replace(
            self._corpus, train=self._contents.fill(train), evaluation=self._contents.fill(evaluation)
        )

    def _record(self) -> None:
        try:
            complete(self._run_dir, self._filled())
        except (OSError, LaunchError) as error:
            _log.warning("what the audio holds cannot be recorded: %s", error)


def complete(run_dir: Path, corpus: Corpus) -> None:
    """Put contents that were read late into the record of a run.

    Args:
        run_dir: the run.
        corpus: its audio, with the contents that are known.

    Raises:
        OSError: the record cannot be written.
        LaunchError: it is damaged.
    """
    files, record = data_record.read(run_dir), read_provenance(run_dir)
    if files is not None and any(file.is_pending for file in files):
        files = data_record.completed(files, corpus)
        data_record.write(run_dir, files)
    if record is None or not record.get("attempts"):
        return
    before = json.dumps(record)
    if files is not None and isinstance(record.get("data"), dict) and record["data"].get("sha256") is None:
        record["data"]["sha256"] = data_record.digest(files)
    if record["attempts"][-1].get("data_sha256") is None:
        record["attempts"][-1]["data_sha256"] = data_record.digest(data_record.files_of(corpus))
    if json.dumps(record) != before:
        write_text(run_dir / PROVENANCE, json.dumps(record, indent=2) + "\n")

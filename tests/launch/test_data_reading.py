"""The record of a run's audio: contents that are read after training has begun, or not at all."""

import json
import os
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from pipeline.data import contents
from pipeline.data.contents import Contents
from pipeline.data.corpus import prepare_corpus
from pipeline.launch import data_reading, data_record
from pipeline.launch.data_reading import DataReading, complete
from pipeline.launch.reproduction.data_check import check_data
from pipeline.launch.reproduction.finding import Verdict
from pipeline.launch.reproduction.recorded import find_beginning
from tests.data.conftest import make_data_settings

NAMES = ("a.wav", "b.wav", "c.wav", "d.wav")


class Place:
    """A run's folder and its audio, as a start of the run records them."""

    def __init__(self, folder):
        self.run, self.audio, self.cache = folder / "run", folder / "audio", folder / "cache"
        self.run.mkdir()
        self.audio.mkdir()
        for number, name in enumerate(NAMES):
            noise = np.random.default_rng(number).normal(0, 0.1, 8000)
            soundfile.write(self.audio / name, noise, 8000, subtype="PCM_16")

    def corpus(self):
        settings = self.settings()
        return prepare_corpus(settings, cache_dir=self.cache, report=lambda line: None)

    def settings(self):
        return make_data_settings(root=str(self.audio), cache_dir=str(self.cache))

    def start(self, reading, *, is_first):
        """What `record_attempt` does."""
        corpus = reading.begin()
        data = data_record.describe(corpus)
        record = {"attempts": []} if is_first else self.provenance()
        if is_first:
            data_record.write(self.run, data_record.files_of(corpus))
            record["data"] = data
        record["attempts"].append({"step": 0 if is_first else 3, "data_sha256": data["sha256"]})
        (self.run / "provenance.json").write_text(json.dumps(record))
        reading.go_on()

    def provenance(self):
        return json.loads((self.run / "provenance.json").read_text())

    def check(self):
        return check_data(self.run, self.provenance(), SimpleNamespace(data=self.settings()))

    def num_pending(self):
        return sum(file.is_pending for file in data_record.read(self.run))

    def forget(self):
        for path in self.cache.glob("contents-*"):
            path.unlink()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def gate(monkeypatch):
    """Holds the reading back until it is set; nobody waits for it."""
    gate = threading.Event()
    read = contents._read
    monkeypatch.setattr(contents, "_read", lambda file: (gate.wait(20), read(file))[1])
    monkeypatch.setattr(data_reading, "_PATIENCE_S", 0.0)
    yield gate
    gate.set()


def start_and_kill(place):
    """A first start that ends before anything was read; its thread, which lives on here, records nothing."""
    reading = DataReading(place.run, place.corpus(), place.cache)
    reading._record = lambda: None
    place.start(reading, is_first=True)


def flip(path):
    """Another bit, the same size and time."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_small_folder_is_read_before_training_begins(place):
    reading = DataReading(place.run, place.corpus(), place.cache)
    place.start(reading, is_first=True)
    assert place.num_pending() == 0 and place.check().verdict is Verdict.SAME
    record = place.provenance()
    assert record["data"]["sha256"] == record["attempts"][0]["data_sha256"] is not None
    flip(place.audio / "c.wav")
    finding = place.check()
    assert finding.verdict is Verdict.DIFFERENT and "c.wav: its content has changed" in finding.text


def test_a_large_one_is_read_beside_training_and_then_recorded_alike(place, gate, tmp_path):
    (tmp_path / "other").mkdir()
    corpus = place.corpus()
    reading = DataReading(place.run, corpus, place.cache)
    place.start(reading, is_first=True)
    assert place.num_pending() == 4 and place.provenance()["data"]["sha256"] is None
    gate.set()
    reading.finish(lambda: False)
    assert place.num_pending() == 0 and place.check().verdict is Verdict.SAME
    late, late_files = place.provenance(), (place.run / "data.jsonl").read_bytes()
    at_once = DataReading(place.run, corpus, place.cache)
    place.start(at_once, is_first=True)
    assert place.provenance() == late and (place.run / "data.jsonl").read_bytes() == late_files


def test_a_run_that_was_killed_at_once_says_so_and_a_resume_completes_it(place, gate):
    start_and_kill(place)
    finding = place.check()
    assert finding.verdict is Verdict.UNKNOWN
    assert "before the content of 4 of 4 files was recorded" in finding.text
    gate.set()
    resumed = DataReading(place.run, place.corpus(), place.cache)
    place.start(resumed, is_first=False)
    resumed.finish(lambda: False)
    assert place.num_pending() == 0 and place.check().verdict is Verdict.SAME
    record = place.provenance()
    assert record["data"]["sha256"] == record["attempts"][1]["data_sha256"] is not None


def test_what_changed_between_is_not_taken_for_what_was_trained_on(place, gate):
    start_and_kill(place)
    flip(place.audio / "c.wav")
    os.utime(place.audio / "c.wav")
    (place.audio / "d.wav").unlink()
    shutil.copy(place.audio / "a.wav", place.audio / "d.wav")
    gate.set()
    resumed = DataReading(place.run, place.corpus(), place.cache)
    place.start(resumed, is_first=False)
    resumed.finish(lambda: False)
    assert [file.path for file in data_record.read(place.run) if file.is_pending] == ["c.wav", "d.wav"]
    assert place.provenance()["data"]["sha256"] is None
    assert place.check().verdict is Verdict.UNKNOWN
    assert "2 of 4 files" in place.check().text


@pytest.mark.parametrize("victim", ["a.wav", "d.wav"])
def test_of_a_partial_record_what_is_there_is_compared(place, gate, victim):
    start_and_kill(place)
    gate.set()
    corpus = place.corpus()
    only = corpus.train.select(entry for entry in corpus.train.entries if entry.path == victim)
    held_out = corpus.evaluation.select(entry for entry in corpus.evaluation.entries if entry.path == victim)
    read = Contents((only, held_out), place.cache / "elsewhere")
    read.read()
    filled = SimpleNamespace(train=read.fill(corpus.train), evaluation=read.fill(corpus.evaluation))
    data_record.write(place.run, data_record.completed(data_record.read(place.run), filled))
    assert place.num_pending() == 3 and place.check().verdict is Verdict.UNKNOWN
    flip(place.audio / victim)
    assert place.check().verdict is Verdict.DIFFERENT


def test_files_that_are_gone_or_of_another_size_are_named_without_their_content(place, gate):
    start_and_kill(place)
    (place.audio / "c.wav").unlink()
    finding = place.check()
    assert finding.verdict is Verdict.DIFFERENT and "c.wav: is gone" in finding.text


def test_nobody_waits_for_the_reading_after_a_signal(place, gate):
    reading = DataReading(place.run, place.corpus(), place.cache)
    place.start(reading, is_first=True)
    reading.finish(lambda: True)
    assert place.num_pending() == 4


def test_a_run_without_its_records_is_left_alone(place):
    reading = DataReading(place.run, place.corpus(), place.cache)
    corpus = reading.begin()
    complete(place.run, corpus)
    reading.go_on()
    reading.finish(lambda: False)
    assert not list(place.run.iterdir())


def test_the_second_run_reads_nothing(place, monkeypatch):
    place.start(DataReading(place.run, place.corpus(), place.cache), is_first=True)
    monkeypatch.setattr(contents, "_read", lambda file: pytest.fail("read again"))
    place.start(DataReading(place.run, place.corpus(), place.cache), is_first=True)
    assert place.num_pending() == 0


@pytest.mark.parametrize(
    ("hashes", "is_change"),
    [(("x", "x"), False), (("x", "y"), True), ((None, "y"), False), (("x", None), False)],
)
def test_data_that_were_not_read_are_no_change_of_the_data(hashes, is_change):
    attempts = [{"step": step, "data_sha256": found} for step, found in zip((0, 5), hashes, strict=True)]
    assert (find_beginning({"attempts": attempts}).change == "data") is is_change

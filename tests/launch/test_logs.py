"""What a run says can be written whatever the names of its files are."""

import io
import logging
import os
import sys

import pytest

from pipeline.launch import reproduce
from pipeline.launch.logs import configure_logging

NAME = os.fsdecode(b"caf\xe9.wav")


def strict(monkeypatch):
    """Makes standard output that of a terminal of strict UTF-8."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def said(stream):
    stream.flush()
    return stream.buffer.getvalue().decode()


@pytest.fixture
def logger():
    loggers = [logging.getLogger(name) for name in ("pipeline", "pytorch_lightning")]
    before = [(each.handlers[:], each.propagate, each.level) for each in loggers]
    yield loggers[0]
    for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


def test_a_name_that_is_no_utf8_is_logged(logger, tmp_path, monkeypatch):
    stream = strict(monkeypatch)
    configure_logging(log_file=tmp_path / "run.log")
    logger.info("%s is the only usable file, ä", NAME)
    line = "caf\\udce9.wav is the only usable file, ä\n"
    assert said(stream) == line
    assert (tmp_path / "run.log").read_text("utf-8").endswith(f"INFO {line}")


def test_a_name_that_is_no_utf8_is_told_by_reproduce(monkeypatch):
    stream = strict(monkeypatch)
    reproduce._say("data", f"{NAME}: is gone")
    assert said(stream) == "data       caf\\udce9.wav: is gone\n"

import pytest

from pipeline.data.bad_files import BadFile, BadFileLedger
from pipeline.errors import DataError


def test_every_bad_file_is_named_once():
    lines = []
    ledger = BadFileLedger(num_files=10, max_bad_fraction=0.5, report=lines.append)
    ledger.record([BadFile("a.wav", "empty"), BadFile("b.wav", "truncated")])
    ledger.record(
        [BadFile("b.wav", "met again while reading"), BadFile("c.wav", "NaN"), BadFile("c.wav", "NaN")]
    )
    assert lines == ["bad file 1: a.wav: empty", "bad file 2: b.wav: truncated", "bad file 3: c.wav: NaN"]
    assert len(ledger.bad_files) == 3


def test_too_many_bad_files_stop_the_run_after_all_are_named():
    lines = []
    ledger = BadFileLedger(num_files=4, max_bad_fraction=0.25, report=lines.append)
    ledger.record([BadFile("a.wav", "empty")])
    with pytest.raises(
        DataError, match=r"3 of 4 audio files are bad.*data\.max_bad_fraction=0\.25.*a\.wav: empty"
    ):
        ledger.record([BadFile("b.wav", "empty"), BadFile("c.wav", "empty")])
    assert len(lines) == 3


def test_names_that_are_no_utf8_can_be_printed():
    text = str(BadFile(b"caf\xe9.wav".decode(errors="surrogateescape"), "empty"))
    assert text == r"caf\xe9.wav: empty"
    text.encode()

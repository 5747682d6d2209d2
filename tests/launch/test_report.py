"""What a person reads when a run cannot begin."""

import errno
import logging
import os

import pytest

from pipeline.launch.report import plain_errors


@pytest.fixture(autouse=True)
def as_in_a_fresh_process():
    """Takes back what the first line of a run sets up."""
    logger = logging.getLogger("pipeline")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def test_a_full_disk_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended, plain_errors(), open("/dev/full", "w") as file:
        file.write("x")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("No space left on device; free space")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_file_is_named_where_it_is_known(capsys, number):
    with pytest.raises(SystemExit) as ended, plain_errors():
        raise OSError(number, os.strerror(number), "/runs/a/config.yaml")
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"/runs/a/config.yaml: {os.strerror(number)}; free space")


def test_another_error_of_the_system_keeps_its_traceback(tmp_path):
    with pytest.raises(FileNotFoundError), plain_errors():
        (tmp_path / "missing").read_bytes()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG])
def test_a_path_that_may_not_be_used_is_one_line(capsys, number):
    with pytest.raises(SystemExit) as ended, plain_errors():
        raise OSError(number, os.strerror(number), "/runs/a/sessions.jsonl")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"/runs/a/sessions.jsonl: {os.strerror(number)}; ")
    with pytest.raises(OSError), plain_errors():
        raise OSError(number, os.strerror(number))

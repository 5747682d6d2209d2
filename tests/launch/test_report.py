"""What a person reads when a run cannot begin."""

import errno
import logging
import os

import pytest

from pipeline.config.compose import settle
from pipeline.launch.report import out_of_memory_advice, plain_errors
from pipeline.launch.resources import Resources
from tests.config.compositions import compose


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


REASON = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139 GiB"
SAVING = (
    "trainer.precision=bf16-mixed",
    "model.autoencoder.activation_checkpointing=true",
    "model.autoencoder.chunk_frames=8",
)


def test_advice_names_what_would_save_memory_and_is_not_done_yet():
    resources = Resources(use_gpu=True, processes_per_node=2, num_nodes=1, batch_size=16, accumulate=1)
    advice = out_of_memory_advice(settle(compose()), resources, REASON)
    for said in ("Tried to allocate 2.00 GiB)", "now 16 per process", "make largest-batch", "batch of 32"):
        assert said in advice
    assert all(setting.split("=")[0] in advice for setting in SAVING)
    advice = out_of_memory_advice(settle(compose(*SAVING)), resources, REASON)
    assert not any(setting.split("=")[0] in advice for setting in SAVING)

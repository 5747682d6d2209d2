"""What a rank leaves behind for its job: an error of the run, or nothing."""

import pytest

from pipeline.errors import DataError, LaunchError, PeerError
from pipeline.launch.preemption import RESUME_EXIT_CODE, stop_signals
from pipeline.launch.slurm import failure


@pytest.fixture(autouse=True)
def rank(monkeypatch):
    for name, value in {
        "EULER_JOB": "12_3",
        "EULER_RESTART": "2",
        "RANK": "1",
        "SLURMD_NODENAME": "node2",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stop_signals, "received", None)


def end(run, error):
    """Return what a rank that ends like this leaves the context with."""
    with pytest.raises(BaseException) as found, failure.Judged(run):
        raise error
    return found.value


def reason(run):
    return (failure.job_folder(run) / "reason").read_text()


def test_an_error_of_the_run_is_recorded_and_goes_on(tmp_path):
    error = DataError("data.root=/x: no such folder")
    assert end(tmp_path, error) is error
    assert failure.read(tmp_path) == {
        "job": "12_3",
        "restart": 2,
        "rank": 1,
        "host": "node2",
        "code": 1,
        "reason": "DataError: data.root=/x: no such folder",
    }


def test_a_defect_is_an_error_of_the_run(tmp_path):
    assert isinstance(end(tmp_path, KeyError("x")), KeyError)
    assert failure.read(tmp_path)["reason"] == "KeyError: 'x'"


def test_the_first_error_stays(tmp_path):
    end(tmp_path, ValueError("first"))
    end(tmp_path, ValueError("second"))
    assert failure.read(tmp_path)["reason"] == "ValueError: first"


@pytest.mark.parametrize(
    "error", [PeerError("rank 0 is gone"), RuntimeError("gloo: Connection closed by peer")]
)
def test_a_lost_peer_asks_for_another_start(error, tmp_path):
    found = end(tmp_path, error)
    assert isinstance(found, SystemExit) and found.code == RESUME_EXIT_CODE
    assert failure.read(tmp_path) is None
    assert str(error) in reason(tmp_path)


def test_after_a_stop_nothing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(stop_signals, "received", "SIGUSR2")
    found = end(tmp_path, ValueError("half a file"))
    assert isinstance(found, SystemExit) and found.code == RESUME_EXIT_CODE
    assert failure.read(tmp_path) is None


def test_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(stop_signals, "received", "SIGUSR2")
    assert end(tmp_path, SystemExit(RESUME_EXIT_CODE)).code == RESUME_EXIT_CODE
    assert failure.read(tmp_path) is None
    assert reason(tmp_path) == "stopped by SIGUSR2\n"


def test_a_rank_that_leaves_the_words_to_others_gives_their_reason(tmp_path):
    stop = SystemExit(1)
    stop.__cause__ = LaunchError("roll call failed: rank 0: other code")
    assert end(tmp_path, stop) is stop
    assert failure.read(tmp_path)["reason"] == "LaunchError: roll call failed: rank 0: other code"


def test_a_rank_that_leaves_a_loss_to_others_to_say(tmp_path):
    stop = SystemExit(1)
    stop.__cause__ = PeerError("roll call failed: rank 1 did not come")
    assert end(tmp_path, stop).code == RESUME_EXIT_CODE
    assert failure.read(tmp_path) is None


def test_a_good_end_leaves_nothing(tmp_path):
    with failure.Judged(tmp_path):
        pass
    assert end(tmp_path, SystemExit(0)).code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_record_that_was_cut_short(text, tmp_path):
    failure.job_folder(tmp_path).mkdir()
    (failure.job_folder(tmp_path) / "failure").write_text(text)
    assert failure.read(tmp_path) is None

"""The port at which the processes of a run meet."""

import socket

import pytest

from pipeline.errors import LaunchError
from pipeline.launch import processes


def test_ports_lie_below_those_of_connections() -> None:
    assert {processes._free_port() in processes._PORTS for _ in range(20)} == {True}


def test_taken_ports_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(processes, "_PORTS", range(port, port + 100))
        draws = iter([0, 0, 7, *range(8, 60)])  # twice the one that is taken
        monkeypatch.setattr(processes.secrets, "randbelow", lambda count: next(draws))
        assert processes._free_port() > port


def test_where_connections_take_all_ports_the_system_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PORTS", range(20000, 1024))
    assert processes._free_port() > 0


def test_no_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(processes.socket.socket, "bind", refuse)
    with pytest.raises(LaunchError, match="no free TCP port"):
        processes._free_port()

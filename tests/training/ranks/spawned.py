"""What tests of several ranks share: real processes, and a port for them to meet at."""

import multiprocessing
import socket

CONTEXT = multiprocessing.get_context("spawn")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

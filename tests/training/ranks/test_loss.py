"""Which errors a rank may be started again after."""

import errno
import os
import signal

import pytest
import torch.distributed as dist
from torch.utils.data import DataLoader

from pipeline.errors import DataError, LaunchError, PeerError
from pipeline.training.ranks.loss import is_loss

LOSSES = [
    PeerError("rank 0 is gone"),
    RuntimeError(
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:9"
    ),
    RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms"
    ),
    RuntimeError("Application timeout caused pair closure: gloo::IoException"),
    dist.DistBackendError("NCCL communicator was aborted on rank 1."),
    dist.DistNetworkError("failed to recv, got 0 bytes: TCPStore"),
    RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
    RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.ESTALE, "Stale file handle", "/data/a.wav"),
    EOFError(),
]
OWN = [
    LaunchError("two processes have RANK=1"),
    DataError("data.root: the gloo folder is not there"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ValueError("Connection closed by peer"),
    OSError(errno.ENOSPC, "No space left on device", "/x"),
    FileNotFoundError(errno.ENOENT, "No such file", "/gloo"),
    MemoryError(),
    KeyError("x"),
]


@pytest.mark.parametrize("error", LOSSES, ids=repr)
def test_a_loss(error):
    assert is_loss(error)


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_an_error_of_its_own(error):
    assert not is_loss(error)


class Killed:
    """Data whose reader is killed, as by a system without memory."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_real_worker_that_is_killed():
    with pytest.raises(RuntimeError) as found:
        list(DataLoader(Killed(), num_workers=1))
    assert is_loss(found.value)

"""Which errors mean that something else than this process has ended. Needs no torch."""

import errno
import re

from pipeline.errors import PeerError, PipelineError

# The words of gloo, NCCL and torch's store and groups for a peer that is gone; their classes are RuntimeErrors mostly.
_WORDS = re.compile(
    r"gloo|nccl|c10d|ProcessGroup|TCPStore"
    r"|Connection (closed|reset|refused|aborted|timed out)|Broken pipe|Socket (closed|Timeout)"
    r"|Timed out waiting \d+ ?ms|DataLoader worker .* (is killed by signal|exited unexpectedly)",
    re.IGNORECASE,
)
_OF_THE_NODE = (
    errno.EIO,
    errno.ESTALE,
    errno.EREMOTEIO,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.ETIMEDOUT,
)
"""What a network file system says when the way to it is lost."""


def is_loss(error: BaseException) -> bool:
    """Whether an error comes of another process, or of the node: the same work may well succeed elsewhere.

    In doubt an error of a library of communication is one: whoever starts a run again counts how often that helps.

    Args:
        error: what has ended the work of this rank.
    """
    if isinstance(error, PipelineError):
        return isinstance(error, PeerError)
    if isinstance(error, OSError):
        return isinstance(error, ConnectionError) or error.errno in _OF_THE_NODE
    if isinstance(error, EOFError):  # of a pipe between processes
        return True
    return isinstance(error, RuntimeError) and bool(_WORDS.search(str(error)))

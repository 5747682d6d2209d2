"""What the machine of a rank is called. Needs no torch."""

import os
import socket


def host_name() -> str:
    """Return SLURM's name of this node within a job, the host's own name otherwise."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()

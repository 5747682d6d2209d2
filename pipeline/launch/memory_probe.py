"""`python -m pipeline.launch.memory_probe`: try one batch size in a process of its own; used by `largest_batch`.

The process ends with 0 and the peak in bytes on its output, or with OUT_OF_MEMORY.
"""

import argparse
import re
import resource
import sys
from pathlib import Path

from pipeline.config import compose
from pipeline.launch import preflight

OUT_OF_MEMORY = 3
SHARE = 0.95  # of free memory; the rest is for the network between ranks and for memory in pieces


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("limit_bytes", type=int, help="0: SHARE of what is free on the GPU")
    options = parser.parse_args()
    checked = preflight.check(compose.read(options.config), frozenset())
    use_gpu = checked.resources.use_gpu
    import torch

    from pipeline.training.memory_probe import is_out_of_memory, peak_bytes

    if (
        not use_gpu
    ):  # after the libraries are there, which cannot say that memory was short; what they took counts
        if _taken_bytes() > options.limit_bytes:
            return OUT_OF_MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (options.limit_bytes, options.limit_bytes))
    device = torch.device("cuda" if use_gpu else "cpu")
    try:
        if use_gpu:
            free, whole = torch.cuda.mem_get_info()
            torch.cuda.set_per_process_memory_fraction(
                min(1.0, (options.limit_bytes or SHARE * free) / whole)
            )
        peak = peak_bytes(
            checked.config,
            checked.losses,
            checked.metrics,
            checked.stepping,
            batch_size=options.batch_size,
            accumulate=checked.resources.accumulate,
            device=device,
        )
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return OUT_OF_MEMORY
        raise
    sys.stdout.write(f"{peak}\n")
    return 0


def _taken_bytes() -> int:
    """Return the private memory of this process, which RLIMIT_DATA counts."""
    taken = re.search(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert taken is not None
    return 1024 * int(taken[1])


if __name__ == "__main__":
    sys.exit(main())

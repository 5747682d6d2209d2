"""One of two gloo processes that share ten examples unevenly; prints the averages. Run by test_metrics.py."""

import sys
from pathlib import Path

import torch.distributed

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from test_metrics import build, pair  # noqa: E402

SHARES = ((slice(0, 4), slice(4, 7)), (slice(7, 8), slice(8, 10)))


def main(rank: int, rendezvous: str) -> None:
    """Update with this process's share and print `name value` lines."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    metrics = build()
    estimate, reference = pair()
    for share in SHARES[rank]:
        metrics.update(estimate[share], reference[share])
    values = metrics.compute().values
    sys.stdout.writelines(f"{name} {value.item():.12g}\n" for name, value in values.items())
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

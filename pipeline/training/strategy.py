"""`trainer.strategy` -> Lightning's strategy, tuned for these models."""

from datetime import timedelta

from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy

COLLECTIVE_TIMEOUT = timedelta(minutes=30)


def build_strategy(name: str, world_size: int, use_gpu: bool) -> Strategy | str:
    """Return the strategy of one process of a run.

    Args:
        name: `auto` or `ddp`; auto is ddp wherever there is more than one process.
        world_size: processes over all nodes.
        use_gpu: NCCL on GPUs, gloo on the CPU.
    """
    if name == "auto" and world_size == 1:
        return "auto"
    return DDPStrategy(
        cluster_environment=LightningEnvironment(),
        process_group_backend="nccl" if use_gpu else "gloo",
        timeout=COLLECTIVE_TIMEOUT,
        find_unused_parameters=False,
        # Buffers are constants (windows, filter banks): sending them would be a collective in every forward pass,
        # and a deadlock where ranks validate different numbers of batches.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )

"""`trainer.strategy` -> Lightning's strategy, tuned for these models."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from pipeline.training.checkpoints.shard_writer import ShardWriter
from pipeline.training.checkpoints.store import CheckpointStore
from pipeline.training.checkpoints.writer import BackgroundWriter

COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Devices:
    """What the ranks of a run compute on, together.

    Attributes:
        use_gpu: one GPU per process, or the CPU.
        world_size: processes over all nodes.
        effective_batch: samples per optimiser step over all of them.
    """

    use_gpu: bool
    world_size: int
    effective_batch: int


class OneStreamDdp(DDPStrategy):
    """DDP whose gradients are taken up in the stream that computes them.

    Lightning wraps the model in a stream of its own. Gradients are then copied into DDP's buckets in that stream,
    beside the rest of the backward pass, which waits for it at its end only. The caching allocator keeps their memory
    for so long; that of CUDA graphs is kept by nobody, and the encoder's backward graph writes over gradients of the
    decoder that are not copied yet.
    """

    def _setup_model(self, model: Module) -> DistributedDataParallel:
        return DistributedDataParallel(
            module=model, device_ids=self.determine_ddp_device_ids(), **self._ddp_kwargs
        )


def build_strategy(name: str, devices: Devices) -> Strategy | str:
    """Return the strategy of one process of a run whose ranks hold the whole optimiser each.

    Args:
        name: `auto` or `ddp`; auto is ddp wherever there is more than one process.
        devices: NCCL on GPUs, gloo on the CPU.
    """
    if name == "auto" and devices.world_size == 1:
        return "auto"
    return OneStreamDdp(
        **_common(devices),
        find_unused_parameters=False,
        # Buffers are constants (windows, filter banks): sending them would be a collective in every forward pass,
        # and a deadlock where ranks validate different numbers of batches.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def build_zero(
    config: dict[str, Any], precision: str, devices: Devices, store: CheckpointStore, writer: BackgroundWriter
) -> Strategy:
    """Return the strategy of one process of a run whose ranks share the optimiser.

    Args:
        config: for DeepSpeed, without what other keys decide.
        precision: `32-true` or `bf16-mixed`.
        devices: NCCL on GPUs, gloo on the CPU.
        store: the run's checkpoints.
        writer: the thread that writes them.
    """
    from pipeline.training.zero import (
        ZeroPrecision,
        ZeroStrategy,
        prepare_deepspeed,
    )  # DeepSpeed takes seconds

    prepare_deepspeed(devices.use_gpu)
    return ZeroStrategy(
        config,
        ZeroPrecision(precision, "cuda" if devices.use_gpu else "cpu"),
        ShardWriter(store, writer),
        **_common(devices),
    )


def _common(devices: Devices) -> dict[str, Any]:
    return {
        "cluster_environment": LightningEnvironment(),
        "process_group_backend": "nccl" if devices.use_gpu else "gloo",
        "timeout": COLLECTIVE_TIMEOUT,
    }

"""How many processes a run has, on what devices, and what one optimiser step consists of."""

from dataclasses import dataclass

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.launch import outer


@dataclass(frozen=True)
class Resources:
    """Processes and batch sizes of a run.

    Attributes:
        use_gpu: one GPU per process, or the CPU.
        processes_per_node: ranks on each node.
        num_nodes: nodes.
        batch_size: samples per process and forward pass.
        accumulate: forward passes per optimiser step.
    """

    use_gpu: bool
    processes_per_node: int
    num_nodes: int
    batch_size: int
    accumulate: int

    @property
    def world_size(self) -> int:
        """Processes over all nodes."""
        return self.processes_per_node * self.num_nodes

    @property
    def effective_batch(self) -> int:
        """Samples per optimiser step over all processes."""
        return self.batch_size * self.accumulate * self.world_size


def plan(config: Config) -> Resources:
    """Derive the processes of a run from its configuration and this machine.

    Raises:
        ConfigError: more GPUs asked for than there are, contradicting counts, or a global batch that does not divide.
        LaunchError: a launcher has started other ranks than the configuration asks for.
    """
    trainer, place = config.trainer, outer.find_place()
    if trainer.num_nodes > 1 and place is None:
        raise ConfigError(
            f"trainer.num_nodes={trainer.num_nodes}: this process was started alone; {outer.SEVERAL_NODES}; "
            "valid here: 1"
        )
    num_gpus = _num_gpus(trainer.num_gpus, outer.ranks_here(trainer.num_nodes))
    arranged = arrange(config, num_gpus)
    if place is not None:
        key = "trainer.num_gpus" if num_gpus else "trainer.num_processes"
        outer.check_counts(place, arranged.processes_per_node, trainer.num_nodes, key)
    return arranged


def arrange(config: Config, num_gpus: int) -> Resources:
    """Derive the processes and batches of a run whose GPUs are counted.

    Args:
        config: settled tree.
        num_gpus: GPUs of each node that it uses; 0 is the CPU.

    Raises:
        ConfigError: contradicting counts, or a global batch that does not divide.
    """
    trainer = config.trainer
    if num_gpus and trainer.num_processes > 1:
        raise ConfigError(
            f"trainer.num_processes={trainer.num_processes} counts processes on the CPU and contradicts "
            f"trainer.num_gpus={trainer.num_gpus}; valid: trainer.num_gpus=0, or trainer.num_processes=1"
        )
    processes = num_gpus or trainer.num_processes
    accumulate = trainer.trainer.accumulate_grad_batches
    batch_size = config.data.train_dataloader.batch_size
    if trainer.global_batch_size is not None:
        share, rest = divmod(trainer.global_batch_size, processes * trainer.num_nodes * accumulate)
        if rest or not share:
            raise ConfigError(
                f"trainer.global_batch_size={trainer.global_batch_size} does not divide by "
                f"{processes * trainer.num_nodes} processes x trainer.trainer.accumulate_grad_batches={accumulate}; "
                f"valid: a multiple of {processes * trainer.num_nodes * accumulate}"
            )
        batch_size = share
    return Resources(bool(num_gpus), processes, trainer.num_nodes, batch_size, accumulate)


def _num_gpus(asked: int | str, ranks_here: int | None) -> int:
    if asked == 0:
        return 0
    import torch  # to count devices; the command line, refusals and submission never come here

    present = torch.cuda.device_count()
    if asked == "auto":
        return present if ranks_here is None else min(present, ranks_here)
    if int(asked) > present:
        every = (
            ""
            if ranks_here is None
            else "; every rank must see all GPUs of its node (srun: no --gpus-per-task)"
        )
        raise ConfigError(
            f"trainer.num_gpus={asked}: this machine shows {present} GPU(s); valid: auto, or 0 to {present}; "
            f"CUDA_VISIBLE_DEVICES and the driver decide what is shown{every}"
        )
    return int(asked)

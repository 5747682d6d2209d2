"""`trainer.strategy=deepspeed`: DeepSpeed's ZeRO 1 and 2, with the mathematics and checkpoints of every strategy."""

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.seed import reset_seed
from pytorch_lightning.plugins.precision import DeepSpeedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from pipeline.errors import TrainingError
from pipeline.training.checkpoint import read
from pipeline.training.checkpoints.optimizer_parts import Shapes, flat_state_of, part_of, whole_without_parts
from pipeline.training.checkpoints.shard_writer import ShardWriter

_BF16 = "bf16-mixed"


class ZeroPrecision(DeepSpeedPrecision):
    """Weights, gradients and audio in float32; under bf16-mixed the layers compute in bfloat16, as with DDP.

    DeepSpeed's own bf16 mode would cast the audio and the STFT's windows as well.

    Args:
        precision: `32-true` or `bf16-mixed`.
        device_type: `cpu` or `cuda`.
    """

    def __init__(self, precision: Any, device_type: str) -> None:
        super().__init__(precision)
        self._device_type = device_type

    def convert_module(self, module: Module) -> Module:
        """Return the module as it is."""
        return module

    def convert_input(self, data: Any) -> Any:
        """Return the audio as it is."""
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """Compute in bfloat16 where DeepSpeed's engine is not there to say so: in a validation of its own."""
        if self.precision == _BF16:
            return torch.autocast(self._device_type, dtype=torch.bfloat16)
        return nullcontext()

    def backward(  # type: ignore[override]
        self, tensor: Tensor, model: pl.LightningModule, optimizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Run DeepSpeed's backward pass on a loss that Lightning has divided by the batches of a step already."""
        engine: Any = model.trainer.model
        is_last = not model.trainer.fit_loop._should_accumulate()
        engine.set_gradient_accumulation_boundary(is_boundary=is_last)
        engine.backward(tensor, *args, scale_wrt_gas=False, **kwargs)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: pl.LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """Run the last batch of a step and the optimiser.

        Raises:
            TrainingError: the gradient is not finite; DeepSpeed would pass over the step in silence.
        """
        engine: Any = model.trainer.model
        result = closure()
        self._after_closure(model, optimizer)
        engine.step()
        if engine.optimizer.overflow:
            raise TrainingError(
                f"the gradient is not finite at step {model.trainer.global_step}; remedies: a lower "
                "trainer.optimizer.config.lr, a lower trainer.trainer.gradient_clip_val, trainer.precision=32-true"
            )
        return result

    def _clip_gradients(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: DeepSpeed clips the gradient of all ranks, of which each holds a part."""


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO 1 and 2 on GPUs (NCCL) and on the CPU (gloo).

    Lightning's DeepSpeed strategy with four differences: it runs on a CPU; an accumulation that the epoch's end cuts
    short ends in a step, as with DDP; weights stay float32; and checkpoints have shards of plain data instead of
    pickled DeepSpeed objects, so that they are verified, and load on any number of ranks and under any strategy.

    Args:
        config: for `deepspeed.initialize`, without what other keys decide.
        precision: how to compute.
        shards: writes the checkpoints.
        options: of Lightning's strategy.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        precision: ZeroPrecision,
        shards: ShardWriter,
        **options: Any,
    ) -> None:
        super().__init__(
            config=dict(config), precision_plugin=precision, logging_level=logging.WARNING, **options
        )
        self._shards = shards

    @property
    def handles_gradient_accumulation(self) -> bool:
        """Whether batches are counted elsewhere: no, Lightning says which one is the last of a step, as for DDP."""
        return False

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Block nothing: ZeRO-2 sends the gradients of every batch, ZeRO-1 those of the last one of a step."""
        yield

    @property
    def gradient_norm(self) -> float:
        """Norm of the newest step's gradient over all weights, before it was clipped."""
        return float(self.deepspeed_engine.get_global_grad_norm())

    def setup_environment(self) -> None:
        """Connect the ranks, on a CPU too."""
        super(DeepSpeedStrategy, self).setup_environment()

    def setup_distributed(self) -> None:
        """Connect the ranks, on a CPU too."""
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()
        assert self._timeout is not None
        self._shards.connect(self._timeout)

    def init_deepspeed(self) -> None:
        """Hand model and optimiser to DeepSpeed for training; a validation needs the model alone."""
        assert self.lightning_module is not None
        if self.lightning_module.trainer.state.fn != TrainerFn.FITTING:
            self.model_to_device()
            return
        assert all(weight.dim() > 0 for weight in self.lightning_module.parameters()), "see optimizer_parts"
        optimizer, scheduler = self._init_optimizers()
        self._shapes: Shapes = [
            [list(weight.shape) for weight in group["params"]] for group in optimizer.param_groups
        ]
        assert self.model is not None
        self.model, zero_optimizer = self._setup_model_and_optimizer(self.model, optimizer)
        self.optimizers = [zero_optimizer]
        self.lr_scheduler_configs = [] if scheduler is None else [scheduler]

    def _setup_model_and_optimizer(
        self, model: Module, optimizer: Optimizer | None, lr_scheduler: Any | None = None
    ) -> tuple[Any, Any]:
        import deepspeed

        engine, zero_optimizer, _, _ = deepspeed.initialize(
            args=argparse.Namespace(device_rank=self.local_rank),  # Lightning's has None for a CPU
            config=self.config,
            model=model,
            model_parameters=[weight for weight in model.parameters() if weight.requires_grad],
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, zero_optimizer

    def _format_config(self) -> None:
        assert isinstance(self.config, dict) and self.lightning_module is not None
        trainer = self.lightning_module.trainer
        self.config |= {
            "train_micro_batch_size_per_gpu": 1,  # of its throughput figures, which are not printed
            "gradient_accumulation_steps": trainer.accumulate_grad_batches,
            "gradient_clipping": trainer.gradient_clip_val or 0.0,
        }
        if self.precision_plugin.precision == _BF16:
            # no layer is named: gradients are added up over the ranks in float32
            self.config["torch_autocast"] = {
                "enabled": True,
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],
            }

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return what the index holds of the optimiser, and this rank's part of it."""
        inner = optimizer.optimizer
        flat = inner.state_dict()
        return {
            "whole": whole_without_parts(flat["param_groups"], self._shapes),
            "part": part_of(flat["state"], len(flat["param_groups"])),
        }

    def parts(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return what this rank writes: `part`, its part of the optimiser, and on the first rank `index`, the rest."""
        (state,) = checkpoint["optimizer_states"]
        index = {**checkpoint, "optimizer_states": [state["whole"]]}
        return {"part": state["part"], **({"index": index} if self.is_global_zero else {})}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Callable[[], None] | None = None
    ) -> None:
        """Have it written; `storage_options` is called on the first rank when it is whole."""
        step = int(checkpoint["global_step"])
        self._shards.submit(step, self.parts(checkpoint), Path(filepath), storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint of any strategy."""
        return read(Path(checkpoint_path))

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Whether weights and callbacks are restored late: no, in the order of every other strategy."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning asks for `load_optimizer_state_dict`."""
        return True

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take up the weights; DeepSpeed copies its shares from them when it takes over the model."""
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up this rank's part of the optimiser's state."""
        (whole,) = checkpoint["optimizer_states"]
        zero: Any = self.optimizers[0]
        sizes = [share.numel() for share in zero.single_partition_of_fp32_groups]
        flat = flat_state_of(whole, sizes, self.global_rank)
        groups = [{**group, "params": [number]} for number, group in enumerate(whole["param_groups"])]
        zero.optimizer.load_state_dict({"state": flat, "param_groups": groups})


def prepare_deepspeed(use_gpu: bool) -> None:
    """Set what must stand before DeepSpeed is imported: its device."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if use_gpu else "cpu")
    import deepspeed

    # its shared-memory collectives for CPUs would be compiled at every user's first start, and add up in another order
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

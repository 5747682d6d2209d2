"""The memory that training takes with a batch: real steps of the configured run on made-up audio."""

import resource
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pipeline.config.schema import Config
from pipeline.losses.plan import LossPlan
from pipeline.training.module import AutoencoderModule
from pipeline.training.module_build import build_module
from pipeline.training.reproducibility import prepare_determinism
from pipeline.training.stepping import Stepping

_STEPS = 2  # the first one makes the optimiser's state, the second one has it beside the gradients
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    words = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "ALLOC_FAILED",
        "bad_alloc",
        "bad alloc",
    )
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error) for word in words
    )


def peak_bytes(
    config: Config,
    losses: LossPlan,
    metrics: Mapping[str, Mapping[str, Any]],
    stepping: Stepping,
    *,
    batch_size: int,
    accumulate: int,
    device: torch.device,
) -> int:
    """Train some steps, validate one batch, and return the memory that this took at most.

    Args:
        config: checked configuration.
        losses: active losses.
        metrics: validation metric -> its arguments.
        stepping: when the scheduler steps.
        batch_size: samples of a batch.
        accumulate: batches per optimiser step.
        device: where.

    Returns:
        Bytes: reserved on a GPU, resident in memory on the CPU.
    """
    trainer = config.trainer
    mode = prepare_determinism(trainer.deterministic, trainer.trainer.strict_deterministic)
    torch.use_deterministic_algorithms(bool(mode), warn_only=mode == "warn")
    module = build_module(config, losses, metrics, stepping, None)
    module = (module.double() if trainer.precision == "64-true" else module).to(device)
    optimizer = module.configure_optimizers()["optimizer"]
    for step in range(_STEPS):
        _step(module, optimizer, config, step, batch_size, min(accumulate, 2))
    _validate(module, config)
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _step(
    module: AutoencoderModule,
    optimizer: torch.optim.Optimizer,
    config: Config,
    step: int,
    batch_size: int,
    accumulate: int,
) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        for _ in range(accumulate):
            with _precision(config, module):
                output = module.autoencoder(_noise(module, config, batch_size))
                report = module.losses(output, step)
            if module.losses.balancer is not None and report.norms is not None:
                module.losses.balancer.note(report.norms)
            (report.total / accumulate).backward()
        settings = config.trainer.trainer
        module.configure_gradient_clipping(
            optimizer, settings.gradient_clip_val, settings.gradient_clip_algorithm
        )
        return report.total.detach()

    optimizer.step(closure)  # type: ignore[arg-type]
    if module.averaged is not None:
        module.averaged.update(module.autoencoder, step)


def _validate(module: AutoencoderModule, config: Config) -> None:
    module.eval()
    with torch.no_grad(), _precision(config, module):
        output = module.evaluated(_noise(module, config, config.data.eval_dataloader.batch_size))
        module.metrics.update(output.waveform, output.reference_waveform)
    module.train()


def _noise(module: AutoencoderModule, config: Config, batch_size: int) -> Tensor:
    weight = next(module.autoencoder.parameters())
    shape = (batch_size, config.data.channels, config.data.segment_samples)
    return 0.1 * torch.randn(shape, device=weight.device, dtype=weight.dtype)


def _precision(config: Config, module: AutoencoderModule) -> AbstractContextManager[Any]:
    dtype = _DTYPES.get(config.trainer.precision)
    return nullcontext() if dtype is None else torch.autocast(module.device.type, dtype)

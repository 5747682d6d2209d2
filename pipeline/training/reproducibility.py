"""Randomness as pure functions: nothing is stored, so nothing can be lost at a resume."""

import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from pipeline.data.seeds import derive_seed


def seed_libraries(*parts: int | str) -> None:
    """Seed Python, NumPy and torch (CPU and every GPU) with a function of `parts`."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed would also note the seed, with a stack trace, for every kind of device that is not there.
    torch.default_generator.manual_seed(seed % 2**63)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed % 2**63)


def prepare_determinism(deterministic: bool, strict: bool) -> bool | Literal["warn"]:
    """Set what must stand before CUDA starts, and return the value of Lightning's `deterministic`.

    Args:
        deterministic: deterministic kernels where they exist, a warning where not.
        strict: an error where no deterministic kernel exists.
    """
    if deterministic:
        # cuBLAS reads it once, when its first handle is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Otherwise every new tensor is filled first, a search aid for reads of what nothing wrote: 50 kernels a step.
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (mypy does not know it)
    return True if strict else "warn" if deterministic else False


class LatentNoise:
    """Random values of a training sample: f(seed, position of the sample in the global sequence).

    They depend on neither rank, batch size nor device, so one process and many draw the same values.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def at(self, positions: Tensor, device: torch.device) -> Callable[[Sequence[int]], Tensor]:
        """Return the source of standard normal values of one batch, for sampling latents.

        Args:
            positions: (B,) int64 on the host, position of each sample in the global training sequence.
            device: where the values are needed.

        Returns:
            A function: shape (B, ...) -> float32 tensor of this shape on the device.
        """
        return partial(self._draw, positions, device, "latent", torch.randn)

    def uniform_at(self, positions: Tensor, device: torch.device) -> Callable[[Sequence[int]], Tensor]:
        """Return the source of values in [0, 1) of one batch, for masking latents; as `at`."""
        return partial(self._draw, positions, device, "latent mask", torch.rand)

    def _draw(
        self,
        positions: Tensor,
        device: torch.device,
        purpose: str,
        draw: Callable[..., Tensor],
        shape: Sequence[int],
    ) -> Tensor:
        assert shape[0] == len(positions), (shape, len(positions))
        generator = torch.Generator()
        samples = []
        for position in positions.tolist():
            generator.manual_seed(derive_seed(self._seed, purpose, position) % 2**63)
            samples.append(draw(tuple(shape[1:]), generator=generator, dtype=torch.float32))
        drawn = torch.stack(samples)
        if device.type != "cuda":
            return drawn
        return drawn.pin_memory().to(
            device, non_blocking=True
        )  # the host would wait for a copy from other memory


class BatchSeed(pl.Callback):
    """Reseed the libraries before every batch, so that dropout and the like depend on (seed, batch, rank) alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed from the count of training batches since the run began."""
        seed_libraries(self._seed, "train", trainer.fit_loop.epoch_loop.total_batch_idx, trainer.global_rank)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Seed from the place in the validation set."""
        seed_libraries(self._seed, "validation", batch_idx, trainer.global_rank)

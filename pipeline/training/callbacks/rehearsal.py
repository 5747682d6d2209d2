"""A pass on made-up audio before the first step, for what only a first pass brings about."""

import logging

import pytorch_lightning as pl
import torch

from pipeline.data.dataset import Batch
from pipeline.training.compilation import end_compilers
from pipeline.training.module import AutoencoderModule
from pipeline.training.strategy import OneStreamDdp
from pipeline.training.watch.watchdog import Watchdog

_log = logging.getLogger(__name__)


class Rehearsal(pl.Callback):
    """Compiles what is to be compiled, and makes DDP add gradients up in the same order in every step of every start.

    Compiling takes a minute or two where nobody has done it before, which no watchdog should take for a step.

    After its first backward pass DDP lays its buckets out anew, in the order in which gradients arrive. How an
    all-reduce over three and more ranks rounds depends on a gradient's place in its bucket, so a run that goes on would
    round its first step otherwise than the run that was never interrupted (seen: 1e-8 on 3 and 4 ranks).

    Args:
        batch_size: samples of a batch of this process.
        channels: audio channels.
        num_samples: length of a segment.
        watchdog: is told how long this may take.
    """

    def __init__(self, batch_size: int, channels: int, num_samples: int, watchdog: Watchdog) -> None:
        self._batch_size, self._shape = batch_size, (channels, num_samples)
        self._watchdog = watchdog

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on noise, and keep nothing of it."""
        assert isinstance(pl_module, AutoencoderModule)
        compiles = pl_module.autoencoder.form.compile
        has_buckets = isinstance(trainer.strategy, OneStreamDdp)
        if not compiles and not has_buckets:
            return
        # running statistics and power iterations go on from where they were, too
        kept = [(buffer, buffer.clone()) for buffer in pl_module.buffers()]
        batch = self._made_up(trainer, self._batch_size if compiles else 1, pl_module.device)
        if compiles:
            with self._watchdog.unbounded("compiling the training step"):
                _compile(trainer, pl_module, batch)
        if has_buckets:
            loss = trainer.strategy.training_step(batch, 0)
            assert isinstance(loss, torch.Tensor)
            loss.backward()
            pl_module.zero_grad()
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)

    def _made_up(self, trainer: pl.Trainer, batch_size: int, device: torch.device) -> Batch:
        noise = 0.1 * torch.randn(batch_size, *self._shape, generator=torch.Generator().manual_seed(0))
        waveform = trainer.precision_plugin.convert_input(noise).to(device)
        names = ("",) * batch_size
        return Batch(waveform, torch.zeros(batch_size, dtype=torch.int64), names, names, ())


def _compile(trainer: pl.Trainer, module: AutoencoderModule, batch: Batch) -> None:
    """Run a pass and its backward pass past all that waits for gradients, and let the ranks wait for the slowest here.

    Some find everything in the cache, others nothing; where time counts, those would be taken for ranks that hang.
    """
    if trainer.is_global_zero:
        _log.info("compiling the training step: minutes where it is new, seconds where it is in the cache")
    with trainer.precision_plugin.train_step_context():
        loss = module.training_step(batch, 0)
    torch.autograd.grad(loss, module.trained_parameters, allow_unused=True)
    end_compilers()
    trainer.strategy.barrier()

"""Makes DDP add gradients up in the same order in every step of every start."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from pipeline.data.dataset import Batch


class BucketOrder(pl.Callback):
    """One backward pass that is thrown away, before the first step.

    After its first backward pass DDP lays its buckets out anew, in the order in which gradients arrive. How an
    all-reduce over three and more ranks rounds depends on a gradient's place in its bucket, so a run that goes on would
    round its first step otherwise than the run that was never interrupted (seen: 1e-8 on 3 and 4 ranks).

    Args:
        channels: audio channels.
        num_samples: length of a segment.
    """

    def __init__(self, channels: int, num_samples: int) -> None:
        self._shape = (1, channels, num_samples)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the gradients arrive once."""
        if type(trainer.strategy) is not DDPStrategy:  # DeepSpeed's, built on it, has no buckets of this kind
            return
        noise = torch.randn(self._shape, generator=torch.Generator().manual_seed(0))
        waveform = trainer.precision_plugin.convert_input(0.1 * noise).to(pl_module.device)
        batch = Batch(waveform, torch.zeros(1, dtype=torch.int64), ("",), ("",), ())
        # running statistics and power iterations go on from where they were, too
        kept = [(buffer, buffer.clone()) for buffer in pl_module.buffers()]
        loss = trainer.strategy.training_step(batch, 0)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        pl_module.zero_grad()
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)

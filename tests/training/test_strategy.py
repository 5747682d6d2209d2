"""How DDP wraps the model."""

from contextlib import nullcontext

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from pipeline.training import strategy
from pipeline.training.strategy import Devices, build_strategy


def test_ddp_takes_gradients_up_in_the_stream_that_computes_them(monkeypatch):
    """A stream of its own would copy gradients beside CUDA graphs that write over their memory."""
    wrapped = []

    def refuse(*ignored):
        pytest.fail("DDP is built in a stream of its own")

    monkeypatch.setattr(torch.cuda, "Stream", refuse)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    wrap = lambda **options: wrapped.append(options)  # noqa: E731
    monkeypatch.setattr(strategy, "DistributedDataParallel", wrap, raising=False)
    chosen = build_strategy("ddp", Devices(use_gpu=True, world_size=2, effective_batch=2))
    assert isinstance(chosen, DDPStrategy)
    chosen.parallel_devices = [torch.device("cuda", 0)]
    monkeypatch.setattr(type(chosen), "root_device", property(lambda self: torch.device("cuda", 0)))
    chosen._setup_model(torch.nn.Linear(1, 1))
    (options,) = wrapped
    assert options["device_ids"] == [0] and options["gradient_as_bucket_view"]
    assert options["find_unused_parameters"] is False and options["broadcast_buffers"] is False

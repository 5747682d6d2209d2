"""What takes place before the first step."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from pipeline.training.callbacks.rehearsal import _compile


def test_ranks_wait_for_the_slowest_where_compiling_is_not_timed():
    """And no gradient is left behind."""
    weight, waited = torch.nn.Parameter(torch.ones(2)), []
    trainer = SimpleNamespace(
        is_global_zero=False,
        precision_plugin=SimpleNamespace(train_step_context=nullcontext),
        strategy=SimpleNamespace(barrier=lambda: waited.append("for the others")),
    )
    module = SimpleNamespace(
        training_step=lambda batch, number: weight.square().sum(), trained_parameters=[weight]
    )
    _compile(trainer, module, None)
    assert waited == ["for the others"] and weight.grad is None

"""A running average of the weights."""

import copy

import torch
from torch import nn


class WeightAverage(nn.Module):
    """A copy of a network whose weights follow the trained ones: `average = d * average + (1 - d) * weights`.

    d is `decay`, with `warmup` at most `(1 + t) / (10 + t)` at the t-th update counted from 0. What is no weight but
    stored with them, such as running statistics of norms, is taken over as it is. The copy lies in the checkpoint
    beside the weights, so an average goes on exactly.

    Args:
        network: the trained network; the average starts at its weights.
        decay: between 0 and 1.
        warmup: forget the first steps faster.

    Source:
        Polyak, Juditsky: Acceleration of stochastic approximation by averaging (1992); the exponential form and its
        warm-up as in Tan, Le: EfficientNet (2019) and TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, network: nn.Module, decay: float, warmup: bool) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.warmup = warmup

    def restart(self, network: nn.Module) -> None:
        """Start anew at the weights of a network."""
        self.network.load_state_dict(network.state_dict())

    @torch.no_grad()
    def update(self, network: nn.Module, num_updates: int) -> None:
        """Move the average by one step.

        Args:
            network: the trained network.
            num_updates: updates before this one.
        """
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + num_updates) / (10 + num_updates))
        averages, weights = dict(self.network.named_parameters()), dict(network.named_parameters())
        torch._foreach_lerp_(list(averages.values()), list(weights.values()), 1 - decay)
        stored = network.state_dict()
        for name, value in self.network.state_dict().items():
            if name not in averages:
                value.copy_(stored[name])

"""The running average of weights against its formula in float64."""

import pytest
import torch
from torch import nn

from pipeline.training.checkpoint import autoencoder_weights
from pipeline.training.weight_average import WeightAverage


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 3)), nn.BatchNorm1d(3))


@pytest.mark.parametrize("warmup", [False, True])
def test_formula(warmup):
    trained = network(0)
    average = WeightAverage(trained, 0.9, warmup)
    expected = {name: value.detach().double() for name, value in trained.named_parameters()}
    for step in range(30):
        with torch.no_grad():
            for weight in trained.parameters():
                weight.add_(torch.randn_like(weight))
        trained[1].running_mean.fill_(step)
        average.update(trained, step)
        decay = min(0.9, (1 + step) / (10 + step)) if warmup else 0.9
        for name, weight in trained.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * weight.detach().double()
    for name, value in average.network.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)
    assert average.network[1].running_mean.tolist() == [29.0] * 3
    assert not any(weight.requires_grad for weight in average.parameters())


def test_it_starts_at_the_weights_and_stays_with_weights_that_stay():
    trained = network(0)
    average = WeightAverage(trained, 0.99, True)
    for step in range(5):
        average.update(trained, step)
    pairs = zip(average.network.state_dict().values(), trained.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    other = network(1)
    average.restart(other)
    inputs = torch.randn(1, 2, 9)
    assert torch.equal(average.network.eval()(inputs), other.eval()(inputs))


def test_a_checkpoint_gives_out_the_average():
    state = {"autoencoder.a": torch.zeros(1), "averaged.network.a": torch.ones(1), "losses.x": torch.ones(1)}
    assert autoencoder_weights({"state_dict": state}) == {"a": torch.ones(1)}
    del state["averaged.network.a"]
    assert autoencoder_weights({"state_dict": state}) == {"a": torch.zeros(1)}

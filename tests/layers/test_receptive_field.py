import pytest
import torch
from torch import nn

from pipeline.layers.conv import Conv1d, Conv2d, ConvStyle, ConvTranspose2d
from pipeline.layers.receptive_field import receptive_field

STYLE = ConvStyle(complex_valued=False, norm="none", pad_mode="zeros")
NETWORKS = {
    "kernel": (nn.Sequential(Conv1d(1, 1, 7, style=STYLE)), 7),
    "dilated": (nn.Sequential(Conv2d(1, 1, (1, 3), dilation=(1, 4), style=STYLE)), 9),
    "down": (
        nn.Sequential(Conv2d(1, 1, (1, 3), style=STYLE), Conv2d(1, 1, (2, 8), stride=(1, 4), style=STYLE)),
        10,
    ),
    "up": (nn.Sequential(Conv2d(1, 1, (1, 3), style=STYLE), ConvTranspose2d(1, 1, (1, 4), style=STYLE)), 4),
    "up and on": (
        nn.Sequential(ConvTranspose2d(1, 1, (1, 4), style=STYLE), Conv2d(1, 1, (1, 5), style=STYLE)),
        3,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_widest_reach_of_a_gradient(name):
    network, expected = NETWORKS[name]
    shape = (1, 1, 48) if name == "kernel" else (1, 1, 2, 48)
    features = torch.randn(shape, requires_grad=True)
    output = network(features)
    widths = []
    for place in range(output.shape[-1] // 3, 2 * output.shape[-1] // 3):
        (gradient,) = torch.autograd.grad(output[..., place].sum(), features, retain_graph=True)
        reached = gradient.flatten(0, -2).abs().sum(0).nonzero().flatten()
        widths.append((reached[-1] - reached[0]).item() + 1)
    assert max(widths) == expected == receptive_field(network)

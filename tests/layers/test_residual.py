import pytest
import torch
from torch import nn

from pipeline.layers.conv import Conv2d, ConvStyle
from pipeline.layers.residual import ResidualUnit, residual_stack


@pytest.mark.parametrize("complex_valued", [False, True])
@pytest.mark.parametrize("true_skip", [False, True])
def test_shape_and_shortcut(complex_valued, true_skip):
    style = ConvStyle(complex_valued)
    unit = ResidualUnit(8, 4, 3, 2, num_bins=9, true_skip=true_skip, activation="ELU", style=style)
    features = torch.randn(2, 16 if complex_valued else 8, 9, 12)
    assert unit(features).shape == features.shape
    assert isinstance(unit.shortcut, nn.Identity) == true_skip
    if true_skip:
        for parameter in unit.parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(unit(features), features)


def test_stack_grows_its_dilation_in_time_and_narrows_inside():
    units = residual_stack(
        8,
        9,
        num_units=3,
        kernel_size=3,
        dilation_base=2,
        compress=4,
        true_skip=False,
        activation="ELU",
        style=ConvStyle(complex_valued=False),
    )
    first_convolutions = [unit.body[1] for unit in units]
    assert all(isinstance(conv, Conv2d) for conv in first_convolutions)
    assert [conv.dilation for conv in first_convolutions] == [(1, 1), (1, 2), (1, 4)]
    assert {conv.out_channels for conv in first_convolutions} == {2}

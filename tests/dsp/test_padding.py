import pytest
import torch
from torch.nn import functional

from pipeline.dsp.padding import reflect_pad, zero_pad


@pytest.mark.parametrize("length", [4, 5, 8, 20])
@pytest.mark.parametrize("amount", [(0, 0), (3, 0), (0, 3), (2, 1), (3, 3)])
def test_values_and_gradients_equal_the_library(length, amount):
    tensor = torch.randn(2, 3, length, dtype=torch.float64, requires_grad=True)
    ours = reflect_pad(tensor, amount, -1)
    library = functional.pad(tensor, amount, mode="reflect")
    assert torch.equal(ours, library)
    weight = torch.randn_like(library)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), tensor)
    (expected,) = torch.autograd.grad((library * weight).sum(), tensor)
    torch.testing.assert_close(gradient, expected)


def test_axes_other_than_the_last():
    tensor = torch.randn(2, 3, 9, 11)
    expected = functional.pad(tensor, (2, 3, 1, 4), mode="reflect")
    assert torch.equal(reflect_pad(reflect_pad(tensor, (1, 4), 2), (2, 3), -1), expected)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_short_axis_counts_as_followed_by_zeros(length):
    tensor = torch.arange(1.0, length + 1).view(1, 1, length)
    padded = reflect_pad(tensor, (3, 3), -1)[0, 0].tolist()
    e0, e1, e2, e3 = [*range(1, length + 1), 0, 0, 0][:4]
    assert padded == [e3, e2, e1, e0, e1, e2, e3, e2, e1][: length + 6]


def test_zero_pad_on_any_axis():
    tensor = torch.ones(2, 3, 4)
    assert zero_pad(tensor, (0, 0), 1) is tensor
    assert zero_pad(tensor, (1, 2), 1).shape == (2, 6, 4)
    assert torch.equal(zero_pad(tensor, (1, 2), -2), zero_pad(tensor, (1, 2), 1))
    assert zero_pad(tensor, (1, 2), 1)[:, [0, 4, 5]].abs().sum() == 0

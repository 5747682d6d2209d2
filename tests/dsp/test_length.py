import torch

from pipeline.dsp.length import pad_to_multiple, trim


def test_pads_to_the_next_multiple_and_trims_back():
    tensor = torch.randn(2, 5, 13)
    padded = pad_to_multiple(tensor, 8, -1)
    assert padded.shape == (2, 5, 16)
    assert padded[..., 13:].abs().sum() == 0
    assert torch.equal(trim(padded, 13, -1), tensor)


def test_a_fitting_length_is_not_copied():
    tensor = torch.randn(2, 5, 16)
    assert pad_to_multiple(tensor, 8, -1) is tensor

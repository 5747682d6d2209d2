import torch

from pipeline.dsp import complex_channels


def test_all_real_parts_come_before_all_imaginary_parts():
    spectrogram = torch.randn(2, 3, 5, 4, dtype=torch.complex64)
    stacked = complex_channels.stack(spectrogram)
    assert stacked.shape == (2, 6, 5, 4)
    assert torch.equal(stacked[:, :3], spectrogram.real)
    assert torch.equal(stacked[:, 3:], spectrogram.imag)
    assert torch.equal(complex_channels.unstack(stacked), spectrogram)


def test_split_and_join_are_inverse_on_any_axis():
    tensor = torch.randn(2, 4, 6)
    for dim in (1, 2):
        assert torch.equal(complex_channels.join(*complex_channels.split(tensor, dim), dim), tensor)


def test_unstack_keeps_float64_and_upcasts_half_precision():
    stacked = torch.randn(1, 2, 3, 4)
    assert complex_channels.unstack(stacked.bfloat16()).dtype == torch.complex64
    assert complex_channels.unstack(stacked.half()).dtype == torch.complex64
    assert complex_channels.unstack(stacked.double()).dtype == torch.complex128


def test_magnitude_and_gain_act_on_complex_numbers():
    spectrogram = torch.randn(2, 3, 5, 4, dtype=torch.complex128)
    stacked = complex_channels.stack(spectrogram)
    torch.testing.assert_close(complex_channels.magnitude_squared(stacked), spectrogram.abs().square())
    gain = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    scaled = complex_channels.unstack(complex_channels.scale_by(stacked, gain))
    torch.testing.assert_close(scaled, spectrogram * gain)

import torch

from pipeline.dsp.mel import MelFilterbank


def test_a_tone_lands_in_the_band_of_its_frequency():
    filterbank = MelFilterbank(16_000, 512, 40)
    magnitude = torch.zeros(1, 1, 257, 3)
    magnitude[:, :, 64] = 1  # 2 kHz
    mel = filterbank(magnitude)
    assert mel.shape == (1, 1, 40, 3)
    band = mel[0, 0, :, 0].argmax()
    centre_bin = (filterbank.filters[band] * torch.arange(257)).sum() / filterbank.filters[band].sum()
    assert abs(centre_bin.item() - 64) < 4


def test_filters_have_unit_area_in_hertz():
    filters = MelFilterbank(16_000, 4096, 20, f_min_hz=500.0, f_max_hz=7000.0).filters
    torch.testing.assert_close(filters.sum(1) * 16_000 / 4096, torch.ones(20), rtol=0.02, atol=0)


def test_never_in_half_precision():
    filterbank = MelFilterbank(16_000, 512, 40)
    magnitude = torch.rand(1, 1, 257, 3)
    expected = filterbank(magnitude)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(filterbank(magnitude), expected)
        assert filterbank(magnitude.bfloat16()).dtype == torch.float32
    assert filterbank(magnitude.double()).dtype == torch.float64

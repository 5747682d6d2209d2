import pytest

from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((63, 16, 63), "^n_fft=63 must be an even number"),
        ((0, 1, 2), "^n_fft=0"),
        ((64, 16, 65), "^win_length=65 .* n_fft=64"),
        ((64, 1, 1), "^win_length=1 "),
        ((64, 33, 64), "^hop_length=33 .* 32, half of win_length=64"),
        ((64, 0, 64), "^hop_length=0 "),
    ],
)
def test_refuses_sizes_without_an_inverse(sizes, message):
    with pytest.raises(ConfigError, match=message):
        StftSettings(*sizes)


def test_frames_and_samples_are_inverse():
    settings = StftSettings(2048, 512, 2048)
    assert settings.num_bins == 1025
    assert settings.num_samples(128) == 65024
    assert [settings.num_frames(n) for n in (1, 512, 513, 65024)] == [2, 2, 3, 128]

import numpy as np
import pytest

from pipeline.data.resample import input_span, resample, resample_span, resampled_length

RATES = [
    (48000, 44100),
    (44100, 48000),
    (96000, 44100),
    (44100, 22050),
    (8000, 44100),
    (22255, 44100),
    (44100, 44100),
]


def tone(frequency_hz, rate, num_samples):
    return np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / rate)[None].astype(np.float32)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_any_crop_equals_the_same_part_of_the_whole_bit_for_bit(from_hz, to_hz):
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((2, 9000)).astype(np.float32)
    expected = resample(whole, from_hz, to_hz)
    assert expected.shape == (2, resampled_length(9000, from_hz, to_hz))
    for start, length in [(0, 1), (0, 700), (1, 513), (1777, 1000), (expected.shape[1] - 50, 50)]:
        first, end = input_span(start, length, from_hz, to_hz)
        first, end = max(0, first), min(9000, end)
        crop = resample_span(whole[:, first:end].copy(), first, start, length, from_hz, to_hz)
        np.testing.assert_array_equal(crop, expected[:, start : start + length])


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_tone_below_both_nyquist_frequencies_passes_unchanged(from_hz, to_hz, share):
    frequency_hz = share * min(from_hz, to_hz) / 2
    out = resample(tone(frequency_hz, from_hz, from_hz // 2), from_hz, to_hz)[0]
    inner = slice(len(out) // 4, -len(out) // 4)
    np.testing.assert_allclose(out[inner], tone(frequency_hz, to_hz, len(out))[0][inner], atol=1e-4)


def test_tone_above_the_new_nyquist_frequency_is_removed():
    out = resample(tone(9000, 48000, 24000), 48000, 16000)[0]
    assert np.abs(out[1000:-1000]).max() < 1e-4


def test_what_lies_after_the_end_is_silent():
    out = resample_span(np.ones((1, 100), np.float32), 0, 5000, 10, 48000, 44100)
    np.testing.assert_array_equal(out, np.zeros((1, 10)))

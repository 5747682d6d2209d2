"""Augmentations and the policy for silence: what they do, and that they are functions of (seed, epoch, item)."""

import numpy as np
import pytest
import soundfile

from pipeline.data.augmentations import Augmentations, Level, level_db
from pipeline.data.dataset import CropPolicy, SegmentFormat, TrainSegments
from pipeline.data.manifest import scan
from pipeline.data.sampler import SampleKey
from pipeline.errors import ConfigError

FORM = SegmentFormat(num_samples=4000, sample_rate_hz=16000, channels=2)
ALL = {"gain": {}, "polarity": None, "channel_swap": {}, "mono_mix": {"probability": 0.3}, "level": {}}


@pytest.fixture
def waveform():
    return (0.1 * np.random.default_rng(0).standard_normal((2, 1000))).astype(np.float32)


def applied(settings, waveform, count=400, seed=3):
    chain = Augmentations(settings, seed)
    return [chain(waveform.copy(), 1, item) for item in range(count)]


def share_of(found, wanted):
    return np.mean([np.array_equal(one, wanted) for one in found])


def test_gain(waveform):
    gains = [
        level_db(found) - level_db(waveform)
        for found in applied({"gain": {"low_db": -3.0, "high_db": 9.0}}, waveform)
    ]
    assert -3.01 < min(gains) < -2.5 and 8.5 < max(gains) < 9.01
    assert abs(np.mean(gains) - 3.0) < 0.6


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("polarity", lambda x: -x),
        ("channel_swap", lambda x: x[::-1]),
        ("mono_mix", lambda x: np.repeat(x.mean(axis=0, keepdims=True), 2, axis=0)),
    ],
)
def test_with_a_probability(waveform, name, wanted):
    found = applied({name: {"probability": 0.25}}, waveform)
    assert abs(share_of(found, wanted(waveform)) - 0.25) < 0.08
    assert share_of(found, wanted(waveform)) + share_of(found, waveform) == 1.0
    assert share_of(applied({name: {"probability": 1.0}}, waveform, 20), wanted(waveform)) == 1.0
    assert share_of(applied({name: {"probability": 0.0}}, waveform, 20), waveform) == 1.0


def test_level(waveform):
    assert level_db(Level(-26.0)(waveform, None)) == pytest.approx(-26.0, abs=1e-3)
    assert level_db(Level(-14.0)(0.01 * waveform, None)) == pytest.approx(
        level_db(waveform) - 40 + 12, abs=1e-3
    )
    peaky = waveform * 0.01
    peaky[0, 5] = 0.9
    assert np.abs(Level(-3.0, 40.0)(peaky, None)).max() == pytest.approx(1.0)
    silence = np.zeros((2, 10), np.float32)
    np.testing.assert_array_equal(Level()(silence, None), silence)


def test_they_depend_on_seed_epoch_and_item_only(waveform):
    first, again = Augmentations(ALL, 3), Augmentations(ALL, 3)
    keys = [(epoch, item) for epoch in range(3) for item in range(20)]
    wanted = [first(waveform.copy(), *key) for key in keys]
    for found, expected in zip(
        [again(waveform.copy(), *key) for key in reversed(keys)][::-1], wanted, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32 and found.shape == waveform.shape
    other = Augmentations(ALL, 4)
    assert any(
        (other(waveform.copy(), *key) != expected).any() for key, expected in zip(keys, wanted, strict=True)
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gian": {}}, r"data\.train_dataset\.augmentations\.gian"),
        ({"gain": {"low": 1}}, r"augmentations\.gain\.config\.low: unknown key"),
        ({"polarity": {"probability": 1.5}}, r"augmentations\.polarity\.config\.probability=1\.5"),
        ({"gain": {"low_db": 3.0, "high_db": -3.0}}, r"low_db=3\.0: above high_db"),
    ],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Augmentations(settings, 0)


def test_quiet_crops_are_cut_elsewhere(tmp_path):
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(160000)
    samples[: 160000 * 6 // 10] *= 1e-5
    soundfile.write(tmp_path / "half.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(20000), 16000, subtype="PCM_16")
    manifest = scan(tmp_path, cache_dir=tmp_path / "cache")
    policy = CropPolicy(-60.0, Augmentations({}, 0))
    plain, picky = TrainSegments(manifest, FORM, 0), TrainSegments(manifest, FORM, 0, (), policy)
    keys = [SampleKey(item, epoch, 0) for epoch in range(3) for item in range(len(plain))]
    quiet = {"plain": 0, "picky": 0}
    for key in keys:
        one, other = plain[key], picky[key]
        np.testing.assert_array_equal(picky[key].waveform, other.waveform)
        assert one.path == other.path
        if level_db(one.waveform) >= -60.0:
            assert one.source == other.source
        if one.path.endswith("half.wav"):
            quiet["plain"] += level_db(one.waveform) < -60.0
            quiet["picky"] += level_db(other.waveform) < -60.0
    assert quiet["plain"] > 50 and quiet["picky"] <= 3

import hashlib
from multiprocessing import get_context

import numpy as np
import pytest
import soundfile

from pipeline.data.synthetic import DEFAULT_PLAN, CorpusPlan, ensure_default_corpus

SMALL = CorpusPlan(num_train=2, num_valid=2, duration_s=2.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return ensure_default_corpus(tmp_path_factory.mktemp("cache"), SMALL)


def digest(root):
    files = sorted(root.rglob("*.flac"))
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def test_layout_and_form(root):
    assert root.name == "default_corpus-v1-2+2x2s-44100hz"
    names = [str(path.relative_to(root)) for path in sorted(root.rglob("*.flac"))]
    assert names == [
        f"{split}/{kind}-000.flac" for split in ("train", "valid") for kind in ("music", "speech")
    ]
    for path in root.rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.channels, info.subtype) == (88200, 44100, 1, "PCM_16")


def test_same_bytes_every_time(root, tmp_path):
    assert digest(ensure_default_corpus(tmp_path, SMALL)) == digest(root)


def test_it_is_generated_once_and_says_so(tmp_path):
    lines = []
    first = ensure_default_corpus(tmp_path, SMALL, report=lines.append)
    times = [path.stat().st_mtime_ns for path in first.rglob("*")]
    assert ensure_default_corpus(tmp_path, SMALL, report=lines.append) == first
    assert [path.stat().st_mtime_ns for path in first.rglob("*")] == times
    assert len(lines) == 1
    assert "generating the default corpus" in lines[0]


def test_processes_that_start_together_share_it(root, tmp_path):
    with get_context("fork").Pool(2) as pool:
        made = pool.starmap(ensure_default_corpus, [(tmp_path, SMALL)] * 2)
    assert made[0] == made[1]
    assert digest(made[0]) == digest(root)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [made[0]]


def test_it_sounds_like_sound(root):
    for path in root.rglob("*.flac"):
        signal, rate = soundfile.read(path)
        assert np.abs(signal).max() == pytest.approx(0.7, abs=0.01)
        power = np.abs(np.fft.rfft(signal)) ** 2
        frequency_hz = np.fft.rfftfreq(len(signal), 1 / rate)
        assert power[frequency_hz < 2000].sum() > 0.9 * power.sum(), "energy lies low, as in music and speech"
        assert power[frequency_hz > 4000].sum() > 1e-6 * power.sum(), "but not only there"
        levels_db = 10 * np.log10((signal[: 40 * 2205].reshape(40, 2205) ** 2).mean(axis=1))
        assert np.ptp(levels_db) > 15, "it has dynamics"


def test_train_and_valid_differ(root):
    for kind in ("music", "speech"):
        train, valid = (soundfile.read(root / split / f"{kind}-000.flac")[0] for split in ("train", "valid"))
        assert abs(np.corrcoef(train, valid)[0, 1]) < 0.2


def test_default_plan_is_large_enough_to_learn_from():
    assert DEFAULT_PLAN.folder_name == "default_corpus-v1-48+8x8s-44100hz"

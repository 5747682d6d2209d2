"""Real audio files of every kind, good and bad, and settings to read them with."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

# name: (rate, channels, seconds, soundfile options)
_GOOD_FILES = {
    "wav 8 bit.wav": (8000, 1, 2.0, {"subtype": "PCM_U8"}),
    "deep/er/wav16.wav": (44100, 2, 2.0, {"subtype": "PCM_16"}),
    "wav24.WAV": (96000, 2, 1.0, {"subtype": "PCM_24"}),
    "float.wav": (48000, 1, 2.0, {"subtype": "FLOAT"}),
    "deep/surround.wav": (48000, 6, 2.0, {"format": "WAVEX", "subtype": "PCM_16"}),
    "aiff.aiff": (22050, 1, 2.0, {}),
    "flac16.flac": (44100, 2, 2.0, {"subtype": "PCM_16"}),
    "Übung 音.flac": (96000, 1, 1.0, {"subtype": "PCM_24"}),
    "cbr.mp3": (44100, 2, 2.0, {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.5}),
    "vbr.mp3": (16000, 1, 4.0, {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.7}),
    "no length header.mp3": (
        22050,
        1,
        4.0,
        {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.99},
    ),
    "vorbis.ogg": (48000, 1, 8.0, {"format": "OGG", "subtype": "VORBIS"}),
    "short.ogg": (8000, 2, 1.0, {"format": "OGG", "subtype": "VORBIS"}),
    "deep/opus.opus": (48000, 2, 3.0, {"format": "OGG", "subtype": "OPUS"}),
}


def _make_signal(sample_rate_hz: int, channels: int, duration_s: float) -> np.ndarray:
    """(S, C): a tone of its own in each channel, a little noise, a slow swell."""
    rng = np.random.default_rng(sample_rate_hz + channels)
    t = np.arange(int(sample_rate_hz * duration_s)) / sample_rate_hz
    tones = [0.3 * np.sin(2 * np.pi * (200 + 70 * channel) * t) for channel in range(channels)]
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * t)
    return (np.stack(tones, 1) + 0.05 * rng.standard_normal((len(t), channels))) * swell[:, None]


def write_good_files(root: Path) -> dict[str, Path]:
    for name, (rate, channels, duration_s, options) in _GOOD_FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, _make_signal(rate, channels, duration_s), rate, **options)
    return {name: root / name for name in _GOOD_FILES}


def write_bad_files(root: Path, good: dict[str, Path]) -> dict[str, str]:
    """Writes bad files; returns their names with a part of the reason that each must be given."""
    cut = root / "cut"
    cut.mkdir(parents=True)
    for name in (
        "deep/er/wav16.wav",
        "aiff.aiff",
        "flac16.flac",
        "cbr.mp3",
        "vbr.mp3",
        "no length header.mp3",
        "vorbis.ogg",
        "deep/opus.opus",
    ):
        content = good[name].read_bytes()
        (cut / Path(name).name).write_bytes(content[: len(content) * 6 // 10])
    for extension in ("wav", "flac", "mp3", "ogg", "opus"):
        (root / f"empty.{extension}").touch()
        (root / f"text.{extension}").write_text("This is a letter, not music.\n" * 300)
    pcm = (_make_signal(44100, 1, 1.0) * 20000).astype("<i2").tobytes()
    (root / "headerless.wav").write_bytes(pcm)
    (root / "headerless.mp3").write_bytes(pcm)
    soundfile.write(root / "nan.wav", np.full((44100, 1), np.nan, np.float32), 44100, subtype="FLOAT")
    soundfile.write(root / "no frames.wav", np.zeros((0, 1)), 44100)
    reasons = {f"cut/{path.name}": "truncated" for path in cut.iterdir()}
    reasons |= {path.name: "empty file" for path in root.glob("empty.*")}
    reasons |= {path.name: "no audio header" for path in root.glob("text.*")}
    reasons |= {
        "headerless.wav": "no audio header",
        "headerless.mp3": "damaged",
        "nan.wav": "NaN",
        "no frames.wav": "0 frames",
    }
    return reasons


@pytest.fixture(scope="session")
def good_root(tmp_path_factory):
    """A nested folder with good files only."""
    root = tmp_path_factory.mktemp("good")
    write_good_files(root)
    return root


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A nested folder with good and bad files; `.root`, and `.reasons` of the bad ones by relative path."""
    root = tmp_path_factory.mktemp("mixed")
    reasons = write_bad_files(root / "bad", write_good_files(root))
    return SimpleNamespace(root=root, reasons={f"bad/{name}": reason for name, reason in reasons.items()})


def make_data_settings(**changes):
    """Data settings with the names of the configuration, for segments of 0.25 s at 16 kHz."""
    loader = {
        "batch_size": 4,
        "num_workers": 0,
        "prefetch_factor": None,
        "persistent_workers": False,
        "pin_memory": False,
    }
    settings = {
        "source": "folder",
        "root": None,
        "scratch_dir": None,
        "selection": {"type": "Folders", "config": {}},
        "mix": {},
        "extensions": ["wav", "aiff", "flac", "mp3", "ogg", "opus"],
        "eval_fraction": 0.2,
        "max_bad_fraction": 0.8,
        "sample_rate_hz": 16000,
        "channels": 2,
        "segment_samples": 4000,
        "train_dataset": SimpleNamespace(segments_per_epoch=None, silence_db=None, augmentations={}),
        "eval_dataset": SimpleNamespace(root=None, max_segments=None),
        "train_dataloader": SimpleNamespace(**loader),
        "eval_dataloader": SimpleNamespace(**loader),
    }
    return SimpleNamespace(**{**settings, **changes})


@pytest.fixture(scope="session")
def make_settings():
    """The function that makes data settings."""
    return make_data_settings


@pytest.fixture(scope="session")
def make_signal():
    """The function that makes a signal, (S, C), of a rate, channels and seconds."""
    return _make_signal


@pytest.fixture(scope="session")
def good_names():
    """Relative paths of the good files."""
    return sorted(_GOOD_FILES)


@pytest.fixture(params=_GOOD_FILES)
def good_file(request, good_root):
    """Each good file in turn: `.path`, and what it was written with."""
    rate, channels, duration_s, _ = _GOOD_FILES[request.param]
    return SimpleNamespace(
        path=good_root / request.param, rate=rate, channels=channels, duration_s=duration_s
    )

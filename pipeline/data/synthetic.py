"""The default corpus: a little music-like and speech-like audio, generated once, read as any other audio."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pipeline.data.cache import locked_cache, unfinished
from pipeline.data.seeds import derive_seed
from pipeline.data.synthetic_music import music
from pipeline.data.synthetic_speech import speech
from pipeline.errors import DataError

_VERSION = 1  # part of the folder's name: raise it with every change of the generators
_PEAK = 0.7
_FLOOR = 2e-4  # a microphone's own noise, -74 dB: pauses are quiet, not digitally silent


@dataclass(frozen=True)
class CorpusPlan:
    """Size of the corpus; half of each split is music, half is speech."""

    num_train: int = 48
    num_valid: int = 8
    duration_s: float = 8.0
    sample_rate_hz: int = 44100

    @property
    def folder_name(self) -> str:
        """Name that changes with everything that changes the audio."""
        size = f"{self.num_train}+{self.num_valid}x{self.duration_s:g}s-{self.sample_rate_hz}hz"
        return f"default_corpus-v{_VERSION}-{size}"


DEFAULT_PLAN = CorpusPlan()


def ensure_default_corpus(
    cache_dir: Path, plan: CorpusPlan = DEFAULT_PLAN, *, report: Callable[[str], None] = lambda line: None
) -> Path:
    """Returns the folder of the default corpus, generating it on first use.

    The folder holds `train/` and `valid/` with mono 16-bit FLAC files. It appears by one rename, so that it
    is complete if it exists; processes that start together generate it once.

    Args:
        cache_dir: Folder that holds the corpus.
        plan: How many files of which length.
        report: Takes the line that tells why the first use takes a while.

    Raises:
        DataError: The cache folder cannot be written.
    """
    target = cache_dir / plan.folder_name
    if target.is_dir():
        return target
    with locked_cache(cache_dir, plan.folder_name):
        if not target.is_dir():
            report(f"generating the default corpus into {target} (once, about 20 s)")
            growing = unfinished(target)
            shutil.rmtree(growing, ignore_errors=True)  # left by a process that was killed
            growing.mkdir()
            try:
                _write_corpus(growing, plan)
            except soundfile.LibsndfileError as error:
                raise DataError(
                    f"{growing} cannot be written ({error}); is the disk of data.cache_dir full?"
                ) from error
            growing.rename(target)
    return target


def _write_corpus(folder: Path, plan: CorpusPlan) -> None:
    for split, num_files in (("train", plan.num_train), ("valid", plan.num_valid)):
        (folder / split).mkdir()
        for number in range(num_files):
            generate, name = (music, "music") if number % 2 == 0 else (speech, "speech")
            rng = np.random.default_rng(derive_seed("default corpus", split, number))
            signal = generate(rng, int(plan.duration_s * plan.sample_rate_hz), plan.sample_rate_hz)
            signal *= _PEAK / np.max(np.abs(signal))
            signal += _FLOOR * rng.standard_normal(len(signal))
            path = folder / split / f"{name}-{number // 2:03d}.flac"
            soundfile.write(path, signal, plan.sample_rate_hz, subtype="PCM_16")

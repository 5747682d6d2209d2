"""Changes of training crops that a model should not mind; each draws from (seed, epoch, item) alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field

from pipeline.config.registry import build
from pipeline.data import AUGMENTATIONS
from pipeline.data.sample_form import Waveform
from pipeline.data.seeds import SEED_RANGE, derive_seed
from pipeline.errors import ConfigError

Draw = Callable[[str], float]
"""Gives a number in [0, 1) for a name, the same for the same crop."""


class Augmentation(Protocol):
    """Changes a crop."""

    def __call__(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Returns (C, S) float32 for (C, S) float32; may change it in place."""


class Gain:
    """y = 10^(g/20) x with g uniform in [low_db, high_db]."""

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0) -> None:
        """Takes decibels.

        Raises:
            ConfigError: The range is empty.
        """
        if low_db > high_db:
            raise ConfigError(f"low_db={low_db}: above high_db={high_db}")
        self._low_db, self._high_db = low_db, high_db

    def __call__(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Scales all channels alike."""
        gain_db = self._low_db + draw("gain") * (self._high_db - self._low_db)
        return waveform * np.float32(10.0 ** (gain_db / 20.0))


class Polarity:
    """y = -x, with a probability."""

    def __init__(self, probability: Annotated[float, Field(ge=0, le=1)] = 0.5) -> None:
        """Takes the probability."""
        self._probability = probability

    def __call__(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Turns all channels over."""
        return -waveform if draw("polarity") < self._probability else waveform


class ChannelSwap:
    """The channels in reverse order, with a probability: left and right change places."""

    def __init__(self, probability: Annotated[float, Field(ge=0, le=1)] = 0.5) -> None:
        """Takes the probability."""
        self._probability = probability

    def __call__(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Swaps the channels."""
        swapped = draw("channel_swap") < self._probability
        return np.ascontiguousarray(waveform[::-1]) if swapped else waveform


class MonoMix:
    """The mean of the channels in every channel, with a probability."""

    def __init__(self, probability: Annotated[float, Field(ge=0, le=1)] = 0.1) -> None:
        """Takes the probability."""
        self._probability = probability

    def __call__(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Mixes the channels."""
        if draw("mono_mix") >= self._probability:
            return waveform
        return np.repeat(waveform.mean(axis=0, keepdims=True), len(waveform), axis=0)


class Level:
    """y = g x at an RMS level of target_db; g is at most max_gain_db, and lifts no peak over full scale."""

    def __init__(
        self,
        target_db: Annotated[float, Field(le=0)] = -20.0,
        max_gain_db: Annotated[float, Field(ge=0)] = 12.0,
    ) -> None:
        """Takes decibels, full scale 0."""
        self._target_db, self._max_gain_db = target_db, max_gain_db

    def __call__(self, waveform: Waveform, draw: Draw) -> Waveform:
        """Scales all channels alike; silence stays."""
        peak = float(np.abs(waveform).max())
        if peak == 0.0:
            return waveform
        gain = 10.0 ** (min(self._target_db - level_db(waveform), self._max_gain_db) / 20.0)
        if gain > 1.0:
            gain = max(1.0, min(gain, 1.0 / peak))
        return waveform * np.float32(gain)


def level_db(waveform: Waveform) -> float:
    """RMS level, 10 log10(mean x^2) in dB of full scale, of (C, S) float32; -inf for silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10.0 * np.log10(power) if power > 0.0 else -np.inf


class Augmentations:
    """A chain of augmentations, in the order of the configuration."""

    def __init__(self, settings: Mapping[str, Mapping[str, Any] | None], seed: int) -> None:
        """Builds them.

        Args:
            settings: Name -> keyword arguments.
            seed: Seed of the run.

        Raises:
            ConfigError: An unknown name or argument.
        """
        where = "data.train_dataset.augmentations"
        self._chain: Sequence[Augmentation] = [
            build({"type": name, "config": config}, AUGMENTATIONS, f"{where}.{name}")
            for name, config in settings.items()
        ]
        self._seed = seed

    def __call__(self, waveform: Waveform, epoch: int, item: int) -> Waveform:
        """Changes the crop of an item."""
        for augmentation in self._chain:
            waveform = augmentation(waveform, partial(self._draw, epoch, item))
        return waveform

    def _draw(self, epoch: int, item: int, name: str) -> float:
        return derive_seed(self._seed, "augmentation", name, epoch, item) / SEED_RANGE

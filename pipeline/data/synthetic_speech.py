"""Speech-like audio: a source-filter talker who says syllables without meaning.

A glottal pulse train (voiced) and noise (fricatives, bursts, breath) go through formant filters that move
from sound to sound. Sounds are first written into slow control tracks, one value per control frame; the
filters are applied per frame in the frequency domain with overlap-add.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

_HOP = 256
_WINDOW = 1024
_FFT = 2048

# First three formants in Hz: the vowels of a male talker (Peterson and Barney, 1952, table II).
_VOWELS_HZ = (
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
)  # fmt: skip
_NASAL_HZ = (250.0, 1100.0, 2200.0)
_BANDWIDTHS_HZ = (80.0, 110.0, 170.0, 260.0)
# Centre and bandwidth of the noise in Hz, and its level: like s, sh, f, h.
_FRICATIVES = ((6000.0, 2500.0, 0.3), (3000.0, 1400.0, 0.35), (5000.0, 6000.0, 0.12), (1500.0, 1500.0, 0.12))


@dataclass
class _Score:
    """Control tracks under construction: one row per frame of `_HOP` samples."""

    voice: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    formants_hz: list[tuple[float, ...]] = field(default_factory=list)
    noise_band_hz: list[tuple[float, float]] = field(default_factory=list)
    pitch: list[float] = field(default_factory=list)

    def hold(
        self,
        num_frames: int,
        formants_hz: tuple[float, ...],
        *,
        voice: float = 0.0,
        noise: float = 0.0,
        band_hz: tuple[float, float] = (3000.0, 3000.0),
        pitch: float = 1.0,
    ) -> None:
        """Appends a steady sound; smoothing later turns the steps between sounds into transitions."""
        self.voice += [voice] * num_frames
        self.noise += [noise] * num_frames
        self.formants_hz += [formants_hz] * num_frames
        self.noise_band_hz += [band_hz] * num_frames
        self.pitch += [pitch] * num_frames


def speech(rng: np.random.Generator, num_samples: int, sample_rate_hz: int) -> Signal:
    """Returns the talk of one talker, (num_samples,), of any level; all choices are drawn from `rng`."""
    num_frames = num_samples // _HOP + 2
    score = _Score()
    while len(score.voice) < num_frames:
        _say_phrase(rng, score, frames_per_s=sample_rate_hz / _HOP)
    base_hz = rng.uniform(95.0, 125.0) if rng.random() < 0.5 else rng.uniform(165.0, 225.0)
    tract = 1.0 if base_hz < 150 else 1.16  # a shorter vocal tract has higher formants
    formants = _smooth(np.array(score.formants_hz[:num_frames]), 11) * tract * rng.uniform(0.95, 1.05)
    pitch = _smooth(np.array(score.pitch[:num_frames])[:, None], 25)[:, 0]
    frame_at = np.arange(num_frames) * _HOP
    sample_at = np.arange(num_samples)

    wander = 1 + 0.015 * _smooth(rng.standard_normal((num_frames, 1)), 9)[:, 0]
    pitch_hz = np.interp(sample_at, frame_at, base_hz * pitch * wander)
    voice = np.interp(sample_at, frame_at, _smooth(np.array(score.voice[:num_frames])[:, None], 7)[:, 0])
    noise = np.interp(sample_at, frame_at, _smooth(np.array(score.noise[:num_frames])[:, None], 3)[:, 0])
    pulses = _glottal_flow(np.cumsum(pitch_hz) / sample_rate_hz)
    hiss = rng.standard_normal(num_samples)
    voiced_source = voice * (pulses + 0.03 * hiss * (pulses > 0))  # breath escapes while the glottis is open
    talk = _filter(voiced_source, _formant_response(formants, sample_rate_hz))
    return talk + _filter(
        noise * hiss, _noise_response(np.array(score.noise_band_hz[:num_frames]), sample_rate_hz)
    )


def _say_phrase(rng: np.random.Generator, score: _Score, frames_per_s: float) -> None:
    """Writes some words, falling in pitch, and the pause after them."""

    def frames(shortest_s: float, longest_s: float) -> int:
        return max(1, int(rng.uniform(shortest_s, longest_s) * frames_per_s))

    num_words = int(rng.integers(2, 6))
    for word in range(num_words):
        stressed = int(rng.integers(0, 2))
        for syllable in range(int(rng.integers(1, 4))):
            vowel = tuple(map(float, _VOWELS_HZ[rng.integers(len(_VOWELS_HZ))]))
            pitch = 1.15 - 0.3 * word / num_words + (0.12 if syllable == stressed else 0.0)
            level = 1.0 if syllable == stressed else rng.uniform(0.5, 0.8)
            kind = rng.choice(["fricative", "stop", "nasal", "none"])
            if kind == "fricative":
                centre, width, loudness = _FRICATIVES[rng.integers(len(_FRICATIVES))]
                score.hold(frames(0.06, 0.13), vowel, noise=loudness, band_hz=(centre, width), pitch=pitch)
            elif kind == "stop":
                score.hold(frames(0.04, 0.08), vowel, pitch=pitch)
                score.hold(frames(0.008, 0.02), vowel, noise=0.5, band_hz=(2500.0, 3500.0), pitch=pitch)
            elif kind == "nasal":
                score.hold(frames(0.05, 0.09), _NASAL_HZ, voice=0.35 * level, pitch=pitch)
            score.hold(frames(0.09, 0.2), vowel, voice=level, pitch=pitch)
        score.hold(frames(0.01, 0.06), vowel, pitch=pitch)
    score.hold(frames(0.2, 0.6), vowel)


def _smooth(track: Signal, num_frames: int) -> Signal:
    """Moving average with Hann weights along axis 0 of (frames, tracks); the ends are held."""
    weights = np.hanning(num_frames + 2)[1:-1]
    weights /= weights.sum()
    left = num_frames // 2
    padded = np.pad(track, ((left, num_frames - 1 - left), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, weights, mode="valid") for column in padded.T], axis=1)


def _glottal_flow(cycles: Signal) -> Signal:
    """Rosenberg's glottal pulse (opens for 40 %, closes for 16 % of a period), derived as by the lips."""
    position = cycles % 1.0
    opening = np.pi / 0.40 * 0.5 * np.sin(np.pi * position / 0.40)
    closing = -np.pi / 0.32 * np.sin(np.pi * (position - 0.40) / 0.32)
    return np.where(position < 0.40, opening, np.where(position < 0.56, closing, 0.0)) / 10.0


def _formant_response(formants_hz: Signal, sample_rate_hz: int) -> NDArray[np.complex128]:
    """Product of two-pole resonators with unit gain at 0 Hz: (frames, 3) formants to (frames, bins).

    Four resonators alone fall too steeply above the fourth; a rising gain stands for the poles left out.
    """
    frequency = np.fft.rfftfreq(_FFT, 1 / sample_rate_hz)
    fourth = np.full((len(formants_hz), 1), 3700.0)
    squares = np.hstack([formants_hz, fourth]) ** 2 + (np.array(_BANDWIDTHS_HZ) / 2) ** 2
    denominator = np.ones((len(formants_hz), len(frequency)), dtype=np.complex128)
    for square, width in zip(squares.T, _BANDWIDTHS_HZ, strict=True):
        denominator *= (square[:, None] - frequency**2) + 1j * width * frequency
    return np.prod(squares, axis=1, keepdims=True) * (1.0 + (frequency / 4000.0) ** 4) / denominator


def _noise_response(band_hz: Signal, sample_rate_hz: int) -> Signal:
    """Bell-shaped gain around a centre, (frames, 2) centre and width to (frames, bins)."""
    frequency = np.fft.rfftfreq(_FFT, 1 / sample_rate_hz)
    centre, width = band_hz[:, :1], band_hz[:, 1:]
    return 1.0 / (1.0 + ((frequency - centre) / (0.5 * width)) ** 2)


def _filter(source: Signal, response: NDArray[np.inexact]) -> Signal:
    """Filters frame by frame in the frequency domain; Hann windows at a quarter hop add up to 2."""
    num_frames = len(response)
    padded = np.zeros((num_frames - 1) * _HOP + _FFT)
    padded[_WINDOW // 2 : _WINDOW // 2 + len(source)] = source
    index = np.arange(num_frames)[:, None] * _HOP + np.arange(_WINDOW)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    frames = np.fft.irfft(np.fft.rfft(padded[index] * window, _FFT) * response, _FFT)
    out = np.zeros_like(padded)
    for number, frame in enumerate(frames):
        out[number * _HOP : number * _HOP + _FFT] += frame
    return 0.5 * out[_WINDOW // 2 : _WINDOW // 2 + len(source)]

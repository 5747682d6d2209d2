"""Music-like audio: plucked chords, a bowed or blown melody, a bass and soft drums in one room.

Every note is a sum of harmonics a_k * z(t)^k of one complex rotor z(t) = exp(i * phase(t) - damping * t),
evaluated by Horner's rule: the phase carries pitch and vibrato, the damping lets high harmonics die first, as
on a string.
"""

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))
_PROGRESSIONS = ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (5, 3, 0, 4))
_TOP_HZ = 14000.0


def music(rng: np.random.Generator, num_samples: int, sample_rate_hz: int) -> Signal:
    """Returns a piece of music, (num_samples,), of arbitrary level; all choices are drawn from `rng`."""
    scale = _SCALES[rng.integers(len(_SCALES))]
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    tonic = int(rng.integers(45, 55))
    beat_s = 60.0 / rng.uniform(70.0, 125.0)
    has_drums, has_bass, is_bowed = rng.random() < 0.6, rng.random() < 0.8, rng.random() < 0.5
    mix = np.zeros(num_samples)
    num_beats = int(num_samples / sample_rate_hz / beat_s)
    for beat in range(num_beats):
        root = progression[(beat // 4) % 4]
        at = int(beat * beat_s * sample_rate_hz)
        if beat % 16 >= 14 and rng.random() < 0.6:
            continue  # the phrase breathes
        if beat % 2 == 0:
            for step in (0, 2, 4):
                pitch = _degree_hz(tonic, scale, root + step)
                strum = at + int(step * rng.uniform(0.0, 0.012) * sample_rate_hz)
                _add(mix, strum, _plucked(rng, pitch, 2.2 * beat_s, sample_rate_hz), 0.16)
        if has_bass and beat % 2 == 0:
            pitch = _degree_hz(tonic - 12, scale, root)
            _add(mix, at, _plucked(rng, pitch, 1.8 * beat_s, sample_rate_hz, brightness=0.5), 0.5)
        if rng.random() < 0.75:
            length = float(rng.choice([0.5, 1.0, 1.0, 2.0])) * beat_s
            pitch = _degree_hz(tonic + 12, scale, root + int(rng.choice([0, 1, 2, 4, 6])))
            play = _bowed if is_bowed else _blown
            _add(mix, at, play(rng, pitch, length, sample_rate_hz), 0.3)
        if has_drums:
            _add(mix, at, _kick(sample_rate_hz) if beat % 2 == 0 else _snare(rng, sample_rate_hz), 0.35)
            _add(mix, at + int(0.5 * beat_s * sample_rate_hz), _hat(rng, sample_rate_hz), 0.03)
    return _in_a_room(rng, mix, sample_rate_hz)


def _degree_hz(tonic: int, scale: tuple[int, ...], degree: int) -> float:
    """Frequency of a scale degree above the tonic (a MIDI note number), equal temperament."""
    octave, step = divmod(degree, len(scale))
    return float(440.0 * 2.0 ** ((tonic + 12 * octave + scale[step] - 69) / 12))


def _add(mix: Signal, at: int, note: Signal, gain: float) -> None:
    """Adds a note in place; what would sound after the end is cut."""
    end = min(len(mix), at + len(note))
    if at < end:
        mix[at:end] += gain * note[: end - at]


def _harmonic_numbers(pitch_hz: float, most: int, top_hz: float) -> Signal:
    """1, 2, ... for harmonics below `top_hz`, fewer than `most`, at least one."""
    return np.arange(1.0, max(2, min(most, int(top_hz / pitch_hz))))


def _harmonics(phase_rad: Signal, damping: Signal | float, amplitudes: Signal) -> Signal:
    """Imaginary part of sum_k amplitudes[k-1] * z^k, with z = exp(i * phase - damping), by Horner's rule."""
    rotor = np.exp(1j * phase_rad - damping)
    total = np.zeros_like(rotor)
    for amplitude in amplitudes[::-1]:
        total = (total + amplitude) * rotor
    return total.imag


def _plucked(
    rng: np.random.Generator, pitch_hz: float, length_s: float, sample_rate_hz: int, brightness: float = 1.0
) -> Signal:
    """A string plucked off its middle: the comb of that point, and harmonics that decay in their order."""
    t = np.arange(int(length_s * sample_rate_hz)) / sample_rate_hz
    order = _harmonic_numbers(pitch_hz, 24, brightness * _TOP_HZ)
    comb = np.sin(np.pi * order * rng.uniform(0.12, 0.3))
    amplitudes = comb / order ** rng.uniform(1.2, 1.6)
    body = np.exp(-t * rng.uniform(1.5, 3.0)) * np.minimum(1.0, t / 0.003)
    release = np.minimum(1.0, (t[-1] - t) / 0.03)
    note = _harmonics(2 * np.pi * pitch_hz * t, t * rng.uniform(0.6, 1.5), amplitudes)
    return note * body * release


def _bowed(rng: np.random.Generator, pitch_hz: float, length_s: float, sample_rate_hz: int) -> Signal:
    """A bowed string: slow attack, vibrato that sets in late, rosin noise."""
    t = np.arange(int(length_s * sample_rate_hz)) / sample_rate_hz
    vibrato = (
        rng.uniform(0.002, 0.006) * np.minimum(1.0, t / 0.35) * np.sin(2 * np.pi * rng.uniform(4.8, 6.2) * t)
    )
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + vibrato)) / sample_rate_hz
    order = _harmonic_numbers(pitch_hz, 20, _TOP_HZ)
    body_resonances = rng.uniform(0.4, 1.0, len(order))
    note = _harmonics(phase, 0.02, body_resonances / order**1.4)
    rosin = 0.012 * _band_noise(rng, len(t), sample_rate_hz, 900.0, 5000.0)
    return (note + rosin) * _swell(t, 0.07, 0.08)


def _blown(rng: np.random.Generator, pitch_hz: float, length_s: float, sample_rate_hz: int) -> Signal:
    """A flute: few harmonics, a breathing level, and breath noise around the note."""
    t = np.arange(int(length_s * sample_rate_hz)) / sample_rate_hz
    tremolo = 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(4.0, 6.0) * t + rng.uniform(0.0, 6.28))
    order = _harmonic_numbers(pitch_hz, 8, _TOP_HZ)
    note = _harmonics(2 * np.pi * pitch_hz * t, 0.0, order**-2)
    breath = 0.03 * _band_noise(rng, len(t), sample_rate_hz, pitch_hz, 6 * pitch_hz)
    return (note * tremolo + breath) * _swell(t, 0.04, 0.06)


def _kick(sample_rate_hz: int) -> Signal:
    """A soft bass drum: a decaying tone that falls from 150 Hz to 50 Hz."""
    t = np.arange(int(0.35 * sample_rate_hz)) / sample_rate_hz
    phase = 2 * np.pi * np.cumsum(50.0 + 100.0 * np.exp(-t / 0.03)) / sample_rate_hz
    return np.sin(phase) * np.exp(-t / 0.09) * np.minimum(1.0, t / 0.002)


def _snare(rng: np.random.Generator, sample_rate_hz: int) -> Signal:
    """A brushed snare drum: the tone of its skin and a burst of noise."""
    t = np.arange(int(0.22 * sample_rate_hz)) / sample_rate_hz
    skin = 0.5 * np.sin(2 * np.pi * 185.0 * t) * np.exp(-t / 0.05)
    return skin + 0.12 * _band_noise(rng, len(t), sample_rate_hz, 400.0, 6000.0) * np.exp(-t / 0.06)


def _hat(rng: np.random.Generator, sample_rate_hz: int) -> Signal:
    """A hi-hat: a short burst of high noise."""
    t = np.arange(int(0.08 * sample_rate_hz)) / sample_rate_hz
    return _band_noise(rng, len(t), sample_rate_hz, 6000.0, 14000.0) * np.exp(-t / 0.02)


def _swell(t: Signal, attack_s: float, release_s: float) -> Signal:
    """Envelope of a sustained note, raised-cosine at both ends."""
    edge = np.minimum(np.minimum(1.0, t / attack_s), np.minimum(1.0, (t[-1] - t) / release_s))
    return 0.5 - 0.5 * np.cos(np.pi * edge)


def _band_noise(
    rng: np.random.Generator, num_samples: int, sample_rate_hz: int, low_hz: float, high_hz: float
) -> Signal:
    """Noise of unit power between two frequencies, -6 dB per octave outside."""
    frequency = np.fft.rfftfreq(num_samples, 1 / sample_rate_hz)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum *= np.minimum(1.0, frequency / low_hz) / np.maximum(1.0, frequency / high_hz)
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / np.sqrt(np.mean(noise**2) + 1e-12)


def _in_a_room(rng: np.random.Generator, dry: Signal, sample_rate_hz: int) -> Signal:
    """Adds the dull, decaying echo of a small room (noise with 0.25 to 0.5 s of reverberation time)."""
    t = np.arange(int(0.5 * sample_rate_hz)) / sample_rate_hz
    echo = _band_noise(rng, len(t), sample_rate_hz, 100.0, 1500.0) * np.exp(-6.9 * t / rng.uniform(0.25, 0.5))
    echo *= 0.25 / np.sqrt(np.sum(echo**2))
    size = 1 << int(len(dry) + len(echo) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(echo, size), size)
    return dry + wet[: len(dry)]

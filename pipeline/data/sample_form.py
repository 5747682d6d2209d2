"""The form of samples in memory: float32, channels first, in the wanted number."""

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

# Left and right gain of each channel in WAV order, before division by their sums (ITU-R BS.775, no LFE).
_STEREO_DOWNMIX = {
    3: ((1, 0), (0, 1), (0.7071, 0.7071)),
    4: ((1, 0), (0, 1), (0.7071, 0), (0, 0.7071)),
    5: ((1, 0), (0, 1), (0.7071, 0.7071), (0.7071, 0), (0, 0.7071)),
    6: ((1, 0), (0, 1), (0.7071, 0.7071), (0, 0), (0.7071, 0), (0, 0.7071)),
    8: ((1, 0), (0, 1), (0.7071, 0.7071), (0, 0), (0.7071, 0), (0, 0.7071), (0.7071, 0), (0, 0.7071)),
}
_CONVERTED_FRAMES = 1 << 14  # at a time, so that they stay in the processor's nearest cache


def from_pcm16(frames: NDArray[np.int16]) -> Waveform:
    """Converts (S, C) 16-bit samples to (C, S) float32, x = q / 32768, which is exact."""
    num_frames, channels = frames.shape
    out = np.empty((channels, num_frames), dtype=np.float32)
    for at in range(0, num_frames, _CONVERTED_FRAMES):
        part = slice(at, at + _CONVERTED_FRAMES)
        np.multiply(frames[part].T, np.float32(2.0**-15), out=out[:, part])
    return out


def convert_channels(waveform: Waveform, channels: int) -> Waveform:
    """Converts (C, S) float32 to (channels, S).

    One channel is copied to all; many become one by their mean; 3, 4, 5.0, 5.1 and 7.1 channels (WAV order)
    become stereo by the ITU-R BS.775 downmix, scaled so that it cannot clip. Otherwise channel i goes to
    channel i modulo `channels` (their mean), and channels that are left over are silent.
    """
    given = len(waveform)
    if given == channels:
        return waveform
    if given == 1:
        return np.repeat(waveform, channels, axis=0)
    if channels == 2 and given in _STEREO_DOWNMIX:
        gains = np.array(_STEREO_DOWNMIX[given], dtype=np.float32)
        return (gains / gains.sum(axis=0)).T @ waveform
    out = np.zeros((channels, waveform.shape[1]), dtype=np.float32)
    for channel in range(min(channels, given)):
        out[channel] = waveform[channel::channels].mean(axis=0)
    return out

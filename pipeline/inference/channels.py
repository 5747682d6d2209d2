"""Audio with any number of channels through a model with a fixed one.

The file's channels are taken in their order, in groups of as many as the model has; the last group is filled up with
copies of the last channel, which are averaged afterwards. So a mono model treats every channel by itself; a stereo
model takes them in pairs, and mono audio as two equal channels.
"""

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


def group_channels(waveform: Waveform, group_size: int) -> Waveform:
    """(C, S) to (number of groups, group_size, S)."""
    return waveform[_members(len(waveform), group_size)]


def ungroup_channels(groups: Waveform, channels: int) -> Waveform:
    """(number of groups, group_size, S) back to (channels, S), copies averaged."""
    members = _members(channels, groups.shape[1])
    flat, owners = groups.reshape(members.size, -1), members.ravel()
    return np.stack([flat[owners == channel].mean(axis=0) for channel in range(channels)])


def _members(channels: int, group_size: int) -> NDArray[np.intp]:
    """Channel of each place, (number of groups, group_size)."""
    num_groups = -(-channels // group_size)
    return np.minimum(np.arange(num_groups * group_size), channels - 1).reshape(num_groups, group_size)

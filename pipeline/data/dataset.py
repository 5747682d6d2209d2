"""Segments of audio: which part of which file belongs to an index, as a pure function."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from pipeline.data.audio_io import convert_segment
from pipeline.data.augmentations import Augmentations, level_db
from pipeline.data.bad_files import BadFile, UnreadableAudioError
from pipeline.data.manifest import AudioEntry, Manifest
from pipeline.data.mixture import Mixture, Slots
from pipeline.data.resample import resampled_length
from pipeline.data.sampler import SampleKey
from pipeline.data.seeds import derive_seed
from pipeline.data.shares import Share
from pipeline.data.storage import Storage
from pipeline.errors import DataError

_MOST_SUBSTITUTES = 20
_QUIET_TRIES = 8


class SegmentFormat(NamedTuple):
    """Form of every segment of a run."""

    num_samples: int
    sample_rate_hz: int
    channels: int


class Segment(NamedTuple):
    """One example: waveform (C, S) float32, where it comes from, and what could not be read in its stead."""

    waveform: NDArray[np.float32]
    position: int
    path: str
    source: str
    bad: tuple[BadFile, ...]


class CropPolicy(NamedTuple):
    """Which training crops are too quiet to be learnt from, in dB of full scale, and how crops are changed."""

    silence_db: float | None
    augmentations: Augmentations


class Batch(NamedTuple):
    """What a loader gives."""

    waveform: torch.Tensor
    """(B, C, S) float32, full scale 1.0."""
    position: torch.Tensor
    """(B,) int64: place in the global training sequence, or number of the evaluation segment."""
    paths: Sequence[str]
    """One file per example."""
    sources: Sequence[str]
    """What each example was cut from: `relative/path@first sample`, the same wherever the audio lies."""
    bad: Sequence[BadFile]
    """Files that failed to be read for this batch; their examples are substitutes."""


def collate(segments: list[Segment], out: torch.Tensor | None = None) -> Batch:
    """Stacks segments into a batch, whose audio is written to `out` (B, C, S) where that is given."""
    return Batch(
        _stack([segment.waveform for segment in segments], out),
        torch.tensor([segment.position for segment in segments], dtype=torch.int64),
        tuple(segment.path for segment in segments),
        tuple(segment.source for segment in segments),
        tuple(bad for segment in segments for bad in segment.bad),
    )


def _stack(waveforms: list[NDArray[np.float32]], out: torch.Tensor | None) -> torch.Tensor:
    """(B, C, S) of waveforms (C, S); in a loader's worker at once in memory that the main process sees."""
    if out is None and get_worker_info() is None:
        return torch.from_numpy(np.stack(waveforms))
    if out is None:
        out = shared_tensor(len(waveforms), *waveforms[0].shape)
    np.stack(waveforms, out=out.numpy())
    return out


def shared_tensor(*shape: int) -> torch.Tensor:
    """Float32 zeros in memory that other processes can see.

    Raises:
        RuntimeError: There is less shared memory.
    """
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    return torch.empty(0, dtype=torch.float32).set_(storage).view(shape)


class TrainSegments(Dataset[Segment]):
    """Random crops: the index chooses a file, (seed, epoch, item) the place in it.

    A file owns as many of the indices as it holds whole segments, at least one, so that every second of audio
    is met equally often. Indices beyond the number of segments begin again with other crops.
    """

    def __init__(
        self,
        manifest: Manifest,
        form: SegmentFormat,
        seed: int,
        shares: Sequence[Share] = (),
        policy: CropPolicy | None = None,
    ) -> None:
        """Takes the usable files of a manifest.

        Args:
            manifest: Files.
            form: Form of the segments.
            seed: Seed of the run.
            shares: Proportions in which consecutive files are drawn; none: all alike.
            policy: Which crops are too quiet, and how crops are changed; None: none, and not at all.
        """
        self._storage = manifest.storage
        self._entries = manifest.entries
        self._form = form
        self._seed = seed
        self._policy = policy or CropPolicy(None, Augmentations({}, seed))
        sizes = np.array([_num_segments(entry, form) for entry in manifest.entries])
        self._ends = np.cumsum(sizes)
        share_ends = np.cumsum([share.num_entries for share in shares], dtype=np.int64)
        self._bounds = np.array([0, *self._ends[share_ends - 1]]) if shares else np.array([0, self._ends[-1]])
        self.mixture = None
        if shares:
            of_share = np.split(sizes, share_ends[:-1])
            slots = [_slots(share, own) for share, own in zip(shares, of_share, strict=True)]
            self.mixture = Mixture(slots, seed)

    def __len__(self) -> int:
        """Whole segments in all files."""
        return int(self._ends[-1])

    def __getitem__(self, key: SampleKey) -> Segment:
        """Reads the crop; if its file fails, another one that depends on the same (seed, epoch, item) only.

        Raises:
            DataError: Twenty files in a row fail, so that something else must be wrong.
        """
        bad: list[BadFile] = []
        index = key.item
        for attempt in range(_MOST_SUBSTITUTES):
            entry = self._entries[np.searchsorted(self._ends, index % len(self), side="right")]
            seed = derive_seed(self._seed, "crop", key.epoch, key.item, attempt)
            places = max(0, _length(entry, self._form) - self._form.num_samples) + 1
            try:
                loaded = self._loud_enough(entry, seed % places, places, key)
                waveform = self._policy.augmentations(loaded[0], key.epoch, key.item)
                return Segment(waveform, *loaded[1:], tuple(bad))
            except UnreadableAudioError as error:
                bad.append(error.bad_file)
            index = self._substitute(index % len(self), key, attempt)
        raise DataError(f"{_MOST_SUBSTITUTES} audio files in a row cannot be read, the last is {bad[-1]}")

    def _loud_enough(
        self, entry: AudioEntry, start: int, places: int, key: SampleKey
    ) -> tuple[NDArray[np.float32], int, str, str]:
        """Loads the crop, or the first of some others in its file that is not too quiet, or else the loudest."""
        loaded = _load(self._storage, entry, start, self._form, key.position)
        silence_db = self._policy.silence_db
        if silence_db is None:
            return loaded
        loudest, tries = level_db(loaded[0]), 0
        while loudest < silence_db and tries < _QUIET_TRIES:
            start = derive_seed(self._seed, "louder", key.epoch, key.item, tries) % places
            other = _load(self._storage, entry, start, self._form, key.position)
            if level_db(other[0]) > loudest:
                loaded, loudest = other, level_db(other[0])
            tries += 1
        return loaded

    def _substitute(self, index: int, key: SampleKey, attempt: int) -> int:
        """Another index of the same share."""
        drawn = derive_seed(self._seed, "substitute", key.epoch, key.item, attempt)
        share = int(np.searchsorted(self._bounds, index, side="right"))
        first, end = int(self._bounds[share - 1]), int(self._bounds[share])
        return first + drawn % (end - first)


class EvalSegments(Dataset[Segment]):
    """Fixed segments side by side from the start of every file, without randomness."""

    def __init__(self, manifest: Manifest, form: SegmentFormat, max_segments: int | None = None) -> None:
        """Takes the usable files of a manifest.

        Args:
            manifest: Files.
            form: Form of the segments; a file that is shorter than one is padded with silence.
            max_segments: Take at most so many, evenly spread over all.
        """
        self._storage = manifest.storage
        self._form = form
        self._entries = manifest.entries
        self._ends = np.cumsum([_num_segments(entry, form) for entry in manifest.entries])
        num_segments = int(self._ends[-1])
        self._num_kept = num_segments if max_segments is None else min(max_segments, num_segments)

    def __len__(self) -> int:
        """Number of segments."""
        return self._num_kept

    def __getitem__(self, index: int) -> Segment:
        """Reads a segment; if its file fails, the next one that can be read.

        Raises:
            DataError: No segment can be read.
        """
        bad: list[BadFile] = []
        for number in range(index, index + len(self)):
            entry, start = self._segment(number % len(self))
            try:
                return Segment(*_load(self._storage, entry, start, self._form, index), tuple(bad))
            except UnreadableAudioError as error:
                bad.append(error.bad_file)
        raise DataError(f"no audio file for evaluation can be read, the last is {bad[-1]}")

    def _segment(self, number: int) -> tuple[AudioEntry, int]:
        """File and first sample of the kept segment `number`."""
        segment = number * int(self._ends[-1]) // self._num_kept
        file = int(np.searchsorted(self._ends, segment, side="right"))
        before = int(self._ends[file - 1]) if file else 0
        return self._entries[file], (segment - before) * self._form.num_samples


def _slots(share: Share, sizes: NDArray[np.int64]) -> Slots:
    """The slots of a share's files; a file's weight is that of each of its slots."""
    if share.weights is None:
        return Slots(int(sizes.sum()), share.weight, None)
    return Slots(int(sizes.sum()), share.weight, np.repeat(np.array(share.weights, dtype=np.float64), sizes))


def _load(
    storage: Storage, entry: AudioEntry, start: int, form: SegmentFormat, position: int
) -> tuple[NDArray[np.float32], int, str, str]:
    waveform = convert_segment(
        partial(storage.read, entry.path, entry.audio),
        entry.audio,
        start,
        form.num_samples,
        sample_rate_hz=form.sample_rate_hz,
        channels=form.channels,
    )
    return waveform, position, storage.place(entry.path), f"{entry.path}@{start}"


def _length(entry: AudioEntry, form: SegmentFormat) -> int:
    """Length of a file in samples at the rate of the run."""
    return resampled_length(entry.audio.num_frames, entry.audio.sample_rate_hz, form.sample_rate_hz)


def _num_segments(entry: AudioEntry, form: SegmentFormat) -> int:
    return max(1, _length(entry, form) // form.num_samples)

"""Random audio by the loader of a run, without files."""

from pathlib import Path

import numpy as np
import torch

from pipeline.data.datamodule import AudioDataModule
from pipeline.data.dataset import Segment
from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader, SampleKey
from pipeline.data.workers import WorkerLoader


class NoiseData(AudioDataModule):
    """A data module whose crops are noise."""

    def __init__(self, checked) -> None:
        config = checked.config
        super().__init__(config.data, config.trainer.seed, Path(), report=print)
        self._batch_size = checked.resources.batch_size

    def prepare_data(self):
        """Nothing is read."""

    def setup(self, stage=None):
        """Nothing is read."""

    def state_dict(self):
        return {}

    def train_dataloader(self):
        sampler = GlobalBatchSampler(100_000, self._batch_size, seed=1)
        options = self._loader_options(self._data.train_dataloader)
        return ResumableLoader(_Crops(self.segment_samples, self._data.channels), sampler, **options)

    def val_dataloader(self):
        places = [[SampleKey(number, 0, number) for number in range(self._batch_size)]]
        crops = _Crops(self.segment_samples, self._data.channels)
        return WorkerLoader(crops, batch_sampler=places, **self._loader_options(self._data.eval_dataloader))


class _Crops(torch.utils.data.Dataset):
    def __init__(self, num_samples, channels):
        self._shape = (channels, num_samples)

    def __getitem__(self, key):
        audio = np.random.default_rng(key.item).standard_normal(self._shape, dtype=np.float32)
        return Segment(0.1 * audio, key.position, str(key.item), str(key.item), ())

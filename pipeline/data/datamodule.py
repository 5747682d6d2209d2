"""The data of a run for Lightning: prepared once, set up on every rank, handed out by resumable loaders."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from pipeline.data.augmentations import Augmentations
from pipeline.data.bad_files import BadFile, BadFileLedger
from pipeline.data.corpus import Corpus, prepare_corpus
from pipeline.data.dataset import Batch, CropPolicy, EvalSegments, SegmentFormat, TrainSegments
from pipeline.data.manifest import Manifest
from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader, ShardSampler, whole_batches
from pipeline.data.seeds import derive_seed
from pipeline.data.shares import digest_with
from pipeline.data.staging import stage, staged
from pipeline.data.transport import Transport, training_transport
from pipeline.data.workers import WorkerLoader, start_worker
from pipeline.errors import DataError


class AudioDataModule(pl.LightningDataModule):
    """Training crops and evaluation segments from a folder of audio or from the default corpus."""

    def __init__(
        self,
        data: Any,
        seed: int,
        cache_dir: Path,
        report: Callable[[str], None],
        limit_train_batches: int | float | None = None,
        accumulate: int = 1,
    ) -> None:
        """Reads nothing yet.

        Args:
            data: The `data` part of the configuration, by attribute.
            seed: Seed of the run.
            cache_dir: Folder for manifests and the default corpus.
            report: Takes lines for the user; give one that is silent on all ranks but the first.
            limit_train_batches: Batches of a training epoch, as a number or as a share. The Trainer is not
                told: the sampler must know where an epoch ends, or a run could not be resumed from there.
            accumulate: Batches per optimiser step.
        """
        super().__init__()
        self._data = data
        self._seed = seed
        self._cache_dir = cache_dir.expanduser()
        self._report = report
        self._limit_train_batches = limit_train_batches
        self._accumulate = accumulate
        self._corpus: Corpus | None = None
        self._ledger: BadFileLedger | None = None
        self._form = SegmentFormat(
            num_samples=data.segment_samples,
            sample_rate_hz=data.sample_rate_hz,
            channels=data.channels,
        )

    def prepare_data(self) -> None:
        """Generates or scans into the cache, and copies to the scratch disk.

        Lightning calls it on one process per node, before `setup`.

        Raises:
            DataError: As `prepare_corpus`.
        """
        if self._corpus is None:
            corpus = prepare_corpus(self._data, cache_dir=self._cache_dir, report=self._report)
            if self._data.scratch_dir is not None:
                stage((corpus.train, corpus.evaluation), Path(self._data.scratch_dir), self._report)

    def setup(self, stage: str | None = None) -> None:
        """Finds the files, names the bad ones, and makes the data sets. Calling it again changes nothing.

        Under a Trainer it believes the cache that `prepare_data` has just filled; called by hand, it looks
        itself.

        Raises:
            DataError: As `prepare_corpus`, or too many files are bad.
        """
        if self._corpus is not None:
            return
        corpus = prepare_corpus(
            self._data, cache_dir=self._cache_dir, report=self._report, trust_cache=self.trainer is not None
        )
        self._ledger = BadFileLedger(corpus.num_files, self._data.max_bad_fraction, self._report)
        for note in corpus.notes:
            self._report(note)
        self._ledger.record(corpus.bad_files)
        if self._data.scratch_dir is not None:
            corpus = _with_copies(corpus, Path(self._data.scratch_dir))
        options = self._data.train_dataset
        policy = CropPolicy(options.silence_db, Augmentations(options.augmentations, self._seed))
        self._train = TrainSegments(corpus.train, self._form, self._seed, corpus.shares, policy)
        self._eval = EvalSegments(corpus.evaluation, self._form, self._data.eval_dataset.max_segments)
        self._corpus = corpus

    @property
    def corpus(self) -> Corpus:
        """Files for training and evaluation, bad and unsupported ones."""
        assert self._corpus is not None, "setup() comes first"
        return self._corpus

    @property
    def train_manifest(self) -> Manifest:
        """Files for training."""
        return self.corpus.train

    @property
    def eval_manifest(self) -> Manifest:
        """Files for evaluation."""
        return self.corpus.evaluation

    @property
    def hours(self) -> float:
        """Hours of audio for training."""
        return self.corpus.train.hours

    @property
    def bad_files(self) -> tuple[BadFile, ...]:
        """Bad files known by now, found by the scan or met while reading."""
        assert self._ledger is not None, "setup() comes first"
        return self._ledger.bad_files

    @property
    def segment_samples(self) -> int:
        """Length of a segment in samples."""
        return self._form.num_samples

    def batches_per_epoch(self, global_batch: int) -> int:
        """Batches of an epoch for a number of samples per batch over all ranks, the limit on them included."""
        batches = self._all_batches(global_batch)
        return min(batches, self._limit_batches(global_batch) or batches)

    def record_bad(self, batch: Batch) -> None:
        """Names the files of a batch that could not be read and are new; call it for every batch.

        Raises:
            DataError: Too many files are bad.
        """
        if batch.bad:
            assert self._ledger is not None
            self._ledger.record(batch.bad)

    def train_dataloader(self) -> ResumableLoader:
        """Loader of this rank's part of the global sequence, resumable at any batch."""
        options = self._data.train_dataloader
        rank, world_size = self._rank()
        sampler = GlobalBatchSampler(
            len(self._train),
            options.batch_size,
            seed=self._seed,
            rank=rank,
            world_size=world_size,
            accumulate=self._accumulate,
            items_per_epoch=self._data.train_dataset.segments_per_epoch,
            limit_batches=self._limit_batches(options.batch_size * world_size),
            repeat_first_epoch=self._is_overfitting(),
            mixture=self._train.mixture,
        )
        loader_options = self._loader_options(options)
        shape = (options.batch_size, self._form.channels, self._form.num_samples)
        loader_options["collate_fn"] = training_transport(loader_options, shape, sampler.global_batch)
        return ResumableLoader(self._train, sampler, **loader_options)

    def val_dataloader(self) -> WorkerLoader:
        """Loader of this rank's share of the evaluation segments; the shares may be uneven."""
        options = self._data.eval_dataloader
        rank, world_size = self._rank()
        sampler = ShardSampler(len(self._eval), options.batch_size, rank=rank, world_size=world_size)
        return WorkerLoader(self._eval, batch_sampler=sampler, **self._loader_options(options))

    def demo_segments(self, count: int, seconds: float) -> list[torch.Tensor]:
        """Reads up to `count` evaluation segments, evenly spread over the files, to listen to.

        Args:
            count: How many.
            seconds: Length of each; shorter files are padded with silence.

        Returns:
            Waveforms (C, S).
        """
        form = self._form._replace(num_samples=max(1, round(seconds * self._form.sample_rate_hz)))
        segments = EvalSegments(self.eval_manifest, form, count)
        return [torch.from_numpy(segments[number].waveform) for number in range(min(count, len(segments)))]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Moves the audio only: positions and paths are read on the host.

        A stream of its own for the copy (0.3 ms of a step of 12.5) costs the host more than it saves the GPU: with
        16 workers beside, 61.7 steps/s for 71.6 on an H200.
        """
        return batch._replace(waveform=batch.waveform.to(device, non_blocking=True))

    def state_dict(self) -> dict[str, Any]:
        """Goes into checkpoints: which audio the run is trained on."""
        return {
            "train_digest": self._train_digest,
            "eval_digest": self.eval_manifest.digest,
            "roots": self._roots(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Says so if the audio has changed since the checkpoint was written.

        Raises:
            DataError: It has, and it is in another folder: most likely the folder is the wrong one.
        """
        if self._corpus is None:
            return
        changed = []
        if state_dict["train_digest"] != self._train_digest:
            changed.append("training")
        if "eval_digest" in state_dict and state_dict["eval_digest"] != self.eval_manifest.digest:
            changed.append("held-out")
        if changed and "roots" in state_dict:
            for key, new in self._roots().items():
                old = state_dict["roots"].get(key)
                if old != new:
                    raise DataError(
                        f"{key}={new}: the {' and the '.join(changed)} files there are not those of this run, which "
                        f"had {key}={old}; set it to a folder of the same files, or start a new run with run.init_from"
                    )
        consequences = {
            "training": "the resumed run goes on, but not as the uninterrupted one would have",
            "held-out": "validation metrics before and after it do not compare",
        }
        for kind in changed:
            self._report(
                f"warning: the {kind} files have changed since the checkpoint was written; {consequences[kind]}"
            )

    @property
    def _train_digest(self) -> str:
        return digest_with(self.train_manifest.digest, self.corpus.shares)

    def _roots(self) -> dict[str, str | None]:
        of_parts = {f"data.mix.{name}.root": part.root for name, part in self._data.mix.items()}
        return {
            "data.root": self._data.root,
            "data.eval_dataset.root": self._data.eval_dataset.root,
        } | of_parts

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _trains_on_gpu(self) -> bool:
        """Whether batches go to a GPU; without a Trainer, whether there is one."""
        if self.trainer is None:
            return torch.cuda.is_available()
        return self.trainer.strategy.root_device.type == "cuda"

    def _is_overfitting(self) -> bool:
        return self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]

    def _all_batches(self, global_batch: int) -> int:
        items = self._data.train_dataset.segments_per_epoch or len(self._train)
        return whole_batches(items, global_batch, self._accumulate)

    def _limit_batches(self, global_batch: int) -> int | None:
        """Batches that an epoch is cut to; `fast_dev_run` sets the Trainer's own limit."""
        limit = self._limit_train_batches
        if isinstance(limit, float):
            limit = max(1, int(self._all_batches(global_batch) * limit))
        of_trainer = self.trainer.limit_train_batches if self.trainer else None
        return min(of_trainer, limit or of_trainer) if isinstance(of_trainer, int) else limit

    def _loader_options(self, options: Any) -> dict[str, Any]:
        """Keyword arguments of DataLoader; prefetching and persistence mean something for workers only."""
        shared = {
            "num_workers": options.num_workers,
            "pin_memory": options.pin_memory and self._trains_on_gpu(),
            "collate_fn": Transport(),
            # Without it, each new iterator would draw from the global generator and shift dropout.
            "generator": torch.Generator().manual_seed(derive_seed(self._seed, "loader")),
        }
        if options.num_workers == 0:
            return shared
        return shared | {
            "prefetch_factor": options.prefetch_factor,
            "persistent_workers": options.persistent_workers,
            "worker_init_fn": partial(start_worker, seed=self._seed),
        }


def _with_copies(corpus: Corpus, scratch_dir: Path) -> Corpus:
    """The corpus, read from this machine's copies where there are any."""
    both = (corpus.train, corpus.evaluation)
    train, evaluation = (staged(manifest, both, scratch_dir) for manifest in both)
    return replace(corpus, train=train, evaluation=evaluation)

import multiprocessing
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from pipeline.data.bad_files import BadFile
from pipeline.data.dataset import Segment
from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader
from pipeline.data.transport import Places, Transport
from pipeline.data.workers import start_worker
from pipeline.errors import DataError

SHAPE = (2, 300)


class Segments(Dataset):
    """Audio that tells which sample it is; some take longer, so that batches arrive in another order."""

    late_s = 0.0

    def __getitem__(self, key):
        time.sleep(self.late_s if key.epoch == 0 and key.position >= 20 else 0.004 * (key.position // 8 % 3))
        waveform = np.full(SHAPE, key.position, np.float32) + np.arange(SHAPE[1], dtype=np.float32) / 1024
        bad = (BadFile("lost.wav", "it is empty"),) if key.position % 5 == 0 else ()
        return Segment(waveform, key.position, f"/music/{key.item}.wav", f"{key.item}.wav@7", bad)


def make_loader(num_workers, places=True, rank=0, world_size=1, **options):
    sampler = GlobalBatchSampler(70, 4, seed=3, rank=rank, world_size=world_size)
    own = Places(
        2 * max(1, num_workers),
        (4, *SHAPE),
        global_batch=sampler.global_batch,
        is_pinned=options.get("pin_memory", False),
    )
    if num_workers:
        options["worker_init_fn"] = partial(start_worker, seed=1)
    return ResumableLoader(
        Segments(), sampler, num_workers=num_workers, collate_fn=Transport(own if places else None), **options
    )


def same(one, other):
    return (
        torch.equal(one.waveform, other.waveform)
        and torch.equal(one.position, other.position)
        and one[2:] == other[2:]
    )


@pytest.mark.parametrize("rank, world_size", [(0, 1), (1, 2)])
@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("persistent", [True, False])
def test_batches_of_workers_are_those_of_the_main_process_and_stay_so(rank, world_size, places, persistent):
    alone = make_loader(0, rank=rank, world_size=world_size)
    wanted = [batch for _ in range(3) for batch in alone]
    loader = make_loader(3, places, rank=rank, world_size=world_size, persistent_workers=persistent)
    found = [batch for _ in range(3) for batch in loader]  # all of them kept
    assert len(found) == len(wanted) >= 24
    assert all(same(one, other) for one, other in zip(found, wanted, strict=True))
    assert found[0].position.dtype == torch.int64
    assert any(batch.bad for batch in found)


def test_a_loader_that_goes_on_in_the_middle_of_an_epoch_finds_its_places():
    wanted = list(make_loader(0))
    loader = make_loader(2)
    loader.seek(0, 4 * 5)
    found = list(loader)
    assert all(same(one, other) for one, other in zip(found, wanted[5:], strict=True))


def test_two_loaders_have_places_of_their_own():
    loaders = [make_loader(2), make_loader(2, rank=1, world_size=2)]
    wanted = [list(make_loader(0)), list(make_loader(0, rank=1, world_size=2))]
    for pairs, others in zip(zip(*loaders, strict=False), zip(*wanted, strict=False), strict=True):
        assert all(same(one, other) for one, other in zip(pairs, others, strict=True))


def test_an_iterator_that_is_given_up_halfway_leaves_the_next_one_alone():
    loader = make_loader(3)
    loader.dataset.late_s = 0.3
    given_up = iter(loader)  # kept, as Lightning keeps it until it has the next one
    for _ in range(4):
        next(given_up)
    batches = iter(loader)
    time.sleep(1.5)  # what workers of the first still had to do is done
    for batch in batches:
        assert torch.equal(batch.waveform[:, 0, 0], batch.position.float())


def test_workers_that_are_not_forked():
    loader = make_loader(2, multiprocessing_context=multiprocessing.get_context("spawn"))
    assert all(same(one, other) for one, other in zip(loader, make_loader(0), strict=True))


def test_a_batch_takes_no_file_descriptor():
    loader = iter(make_loader(1))
    kept, counts = [], []
    for batch in loader:
        kept.append(batch)
        counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert max(counts[1:]) == min(counts[1:])


def test_shared_memory_that_is_not_there_is_asked_for_at_once():
    with pytest.raises(DataError, match=r"GiB of shared memory.*num_workers.*--shm-size"):
        Places(10**7, (32, 2, 65536), global_batch=32, is_pinned=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_batches():
    wanted, found = list(make_loader(0)), list(make_loader(3, pin_memory=True))
    assert all(batch.waveform.is_pinned() for batch in found)
    assert all(same(one, other) for one, other in zip(found, wanted, strict=True))

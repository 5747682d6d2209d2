import pytest
import torch
from torch.utils.data import Dataset

from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader, SampleKey, ShardSampler


class Keys(Dataset):
    """Gives the key itself."""

    def __getitem__(self, key):
        return torch.tensor(key)


def make_loader(num_items=50, batch_size=4, num_workers=0, limit_batches=None, persistent_workers=False):
    sampler = GlobalBatchSampler(num_items, batch_size, seed=3, limit_batches=limit_batches)
    return ResumableLoader(Keys(), sampler, num_workers=num_workers, persistent_workers=persistent_workers)


def epochs(loader, count):
    """Keys of all batches of some epochs."""
    return [[batch.tolist() for batch in loader] for _ in range(count)]


def test_an_epoch_takes_every_item_at_most_once_and_drops_the_incomplete_global_batch():
    sampler = GlobalBatchSampler(50, 4, seed=3, rank=1, world_size=3)
    assert len(sampler) == len(list(sampler)) == 4
    whole = [key for batch in GlobalBatchSampler(50, 1, seed=3) for key in batch]
    assert sorted(key.item for key in whole) == list(range(50))
    assert [key.position for key in whole] == list(range(50))


@pytest.mark.parametrize("num_items", [50, 5])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_global_sequence_is_the_same_on_any_number_of_ranks(num_items, epoch):
    def global_batches(world_size):
        samplers = [
            GlobalBatchSampler(num_items, 8 // world_size, seed=3, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for sampler in samplers:
            sampler.epoch = epoch
        return [sum(parts, []) for parts in zip(*samplers, strict=True)]

    one = global_batches(1)
    assert one == global_batches(2) == global_batches(4) == global_batches(8)
    places = [key.position for batch in one for key in batch]
    assert places == list(range(epoch * len(places), (epoch + 1) * len(places)))


def test_order_differs_between_epochs_and_seeds_and_nothing_else():
    def order(seed, epoch):
        sampler = GlobalBatchSampler(50, 5, seed=seed)
        sampler.epoch = epoch
        return [key.item for batch in sampler for key in batch]

    assert (
        order(3, 0)
        == order(3, 0)
        == [key.item for batch in GlobalBatchSampler(50, 10, seed=3) for key in batch]
    )
    assert order(3, 0) != order(3, 1)
    assert order(3, 0) != order(4, 0)


def test_fewer_items_than_a_global_batch_extend_the_index_space():
    (batch,) = GlobalBatchSampler(3, 8, seed=0)
    assert sorted(key.item for key in batch) == list(range(8))


@pytest.mark.parametrize(("items_per_epoch", "batches"), [(20, 5), (200, 50), (2, 1)])
def test_items_per_epoch(items_per_epoch, batches):
    sampler = GlobalBatchSampler(50, 4, seed=0, items_per_epoch=items_per_epoch)
    items = [key.item for batch in sampler for key in batch]
    assert len(sampler) == batches
    assert len(set(items)) == len(items) == batches * 4
    assert max(items) < max(50, batches * 4)


def test_repeating_the_first_epoch_keeps_its_crops_but_counts_on():
    loader = ResumableLoader(
        Keys(), GlobalBatchSampler(8, 4, seed=0, repeat_first_epoch=True, limit_batches=1)
    )
    first, second = epochs(loader, 2)
    assert [key[:2] for key in first[0]] == [key[:2] for key in second[0]]
    assert [key[2] for key in second[0]] == [4, 5, 6, 7]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("limit_batches", [None, 5])
@pytest.mark.parametrize("done", [1, 3, 5])
def test_restored_loader_goes_on_where_the_other_stopped(num_workers, limit_batches, done):
    # 5 batches are the epoch's end if the limit is 5; 12 batches are an epoch without it.
    reference = epochs(make_loader(limit_batches=limit_batches), 3)
    resumed = make_loader(num_workers=num_workers, limit_batches=limit_batches)
    resumed.seek(epoch=1, samples=done * resumed.global_batch)
    rest_of_epoch = reference[1][done:]
    expected = [rest_of_epoch, reference[2]] if rest_of_epoch else [reference[2]]
    assert epochs(resumed, len(expected)) == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_may_be_restored_at_the_start_of_an_epoch(num_workers):
    reference = epochs(make_loader(), 3)
    resumed = make_loader(num_workers=num_workers)
    resumed.seek(epoch=2, samples=0)
    assert epochs(resumed, 1) == reference[2:]


def test_an_epoch_holds_whole_steps_and_does_not_depend_on_how_they_are_cut():
    def sequence(batch_size, accumulate):
        sampler = GlobalBatchSampler(100, batch_size, seed=3, accumulate=accumulate)
        sampler.epoch = 2
        return [key for batch in sampler for key in batch]

    assert len(sequence(12, 1)) == 96
    assert sequence(12, 1) == sequence(4, 3) == sequence(2, 6)
    assert len(GlobalBatchSampler(3, 2, seed=0, accumulate=4)) == 4


def test_persistent_workers_follow_the_epochs():
    loader = make_loader(num_items=12, num_workers=1, persistent_workers=True)
    assert epochs(loader, 3) == epochs(make_loader(num_items=12), 3)


@pytest.mark.parametrize(("num_items", "world_size"), [(10, 1), (10, 3), (10, 4), (11, 8)])
def test_evaluation_shards_cover_every_item_once(num_items, world_size):
    shards = [ShardSampler(num_items, 2, rank=rank, world_size=world_size) for rank in range(world_size)]
    items = [item for shard in shards for batch in shard for item in batch]
    assert sorted(items) == list(range(num_items))
    assert all(len(shard) == len(list(shard)) for shard in shards)


def test_no_rank_is_left_without_evaluation():
    assert [list(ShardSampler(2, 4, rank=rank, world_size=3)) for rank in range(3)] == [[[0]], [[1]], [[0]]]


def test_keys_are_plain():
    assert SampleKey(1, 2, 3) == (1, 2, 3)

"""Mixed sets come in the asked proportions, the same on any number of ranks, and go on exactly."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.data.corpus import prepare_corpus
from pipeline.data.datamodule import AudioDataModule
from pipeline.data.dataset import SegmentFormat, TrainSegments
from pipeline.data.manifest import scan
from pipeline.data.mixture import Mixture, Slots
from pipeline.data.sampler import GlobalBatchSampler, ResumableLoader
from pipeline.data.shares import Share
from pipeline.errors import DataError
from tests.data.layouts import write_tone

WEIGHTS = (5.0, 3.0, 1.5, 0.5)
SIZES = (7000, 300, 90, 20000)
FORM = SegmentFormat(num_samples=4000, sample_rate_hz=16000, channels=2)


def mixture(seed=1):
    return Mixture([Slots(size, weight, None) for size, weight in zip(SIZES, WEIGHTS, strict=True)], seed)


def set_of(items):
    """Number of the set of each item."""
    return np.searchsorted(np.cumsum(SIZES), np.asarray(items) % sum(SIZES), side="right")


def sampler(batch_size, **more):
    size = sum(SIZES)
    return GlobalBatchSampler(size, batch_size, seed=1, items_per_epoch=12800, mixture=mixture(), **more)


def drawn(sampler, num_batches):
    """Keys of the first batches, over epochs."""
    keys, sampler.epoch = [], 0
    while len(keys) < num_batches:
        keys += list(sampler)
        sampler.epoch += 1
    return keys[:num_batches]


def test_20000_draws_have_the_asked_proportions():
    keys = [key for batch in drawn(sampler(32), 625) for key in batch]
    assert len(keys) == 20000
    shares = np.bincount(set_of([key.item for key in keys])) / 20000
    np.testing.assert_allclose(shares, np.array(WEIGHTS) / sum(WEIGHTS), rtol=0.01)


@pytest.mark.parametrize("start", [0, 777, 5000])
def test_any_stretch_has_nearly_the_asked_proportions(start):
    items = mixture().order(0, 12800)[start : start + 4000]
    shares = np.bincount(set_of(items)) / 4000
    np.testing.assert_allclose(shares, np.array(WEIGHTS) / sum(WEIGHTS), atol=0.01)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_global_sequence_is_the_same_on_any_number_of_ranks(world_size):
    alone = [key for batch in drawn(sampler(32), 625) for key in batch]
    ranks = [
        drawn(sampler(32 // world_size, rank=rank, world_size=world_size), 625) for rank in range(world_size)
    ]
    together = [key for batches in zip(*ranks, strict=True) for batch in batches for key in batch]
    assert together == alone


def test_it_goes_on_exactly_at_any_batch():
    def loader():
        return ResumableLoader(_Keys(), sampler(64), collate_fn=list)

    straight = loader()
    whole = [batch for _ in range(2) for batch in straight]
    for epoch, done in ((0, 77), (1, 3), (1, 199)):
        resumed = loader()
        resumed.seek(epoch, done * 64)
        assert list(resumed) == whole[epoch * 200 + done : (epoch + 1) * 200]


class _Keys:
    """A data set that gives its keys."""

    def __getitem__(self, key):
        return key

    def __len__(self):
        return sum(SIZES)


def test_every_slot_is_met_before_any_is_met_again():
    mixed = mixture()
    counts = mixed.counts(12800)
    assert counts == [6400, 3840, 1920, 640]
    items = np.concatenate([mixed.order(epoch, 12800) for epoch in range(3)])
    for number, (size, count) in enumerate(zip(SIZES, counts, strict=True)):
        met = np.bincount(items[set_of(items) == number] % sum(SIZES) - sum(SIZES[:number]), minlength=size)
        assert met.sum() == 3 * count and met.max() - met.min() <= 1


def test_no_two_of_an_epoch_are_the_same_crop():
    for epoch in range(3):
        items = mixture().order(epoch, 12800)
        assert len(set(items.tolist())) == 12800


def test_the_order_depends_on_seed_and_epoch():
    orders = [mixture(seed).order(epoch, 12800) for seed, epoch in ((1, 0), (2, 0), (1, 1))]
    assert all((one != other).any() for one, other in zip(orders, orders[1:], strict=False))
    np.testing.assert_array_equal(mixture().order(1, 12800), orders[2])


def test_slot_weights():
    weights = np.array([1.0, 1.0, 2.0, 4.0, 0.5])
    mixed = Mixture([Slots(5, 1.0, weights), Slots(10, 1.0, None)], seed=0)
    items = np.concatenate([mixed.order(epoch, 1700) for epoch in range(20)])
    met = np.bincount(items % 15, minlength=15)
    np.testing.assert_allclose(met[:5], 17000 * weights / weights.sum(), atol=1.0 * 20)
    assert met[5:].sum() == 17000
    first = mixed.order(0, 1700)
    assert len(set(first.tolist())) == 1700


@pytest.fixture
def sets(tmp_path):
    for name, count in (("music", 12), ("speech", 5)):
        for number in range(count):
            write_tone(tmp_path / name / f"{number:02d}.wav", number, seconds=1 + number % 3)
    return tmp_path


def part(root, weight, selection=None):
    return SimpleNamespace(root=str(root), weight=weight, selection=selection)


def mixed_settings(make_settings, sets, **changes):
    mix = {"music": part(sets / "music", 3.0), "speech": part(sets / "speech", 1.0)}
    return make_settings(source="mix", mix=mix, **changes)


def test_a_mix_of_folders(make_settings, sets, tmp_path):
    settings = mixed_settings(
        make_settings,
        sets,
        train_dataset=SimpleNamespace(segments_per_epoch=400, silence_db=None, augmentations={}),
    )
    module = AudioDataModule(settings, 5, tmp_path / "cache", lambda line: None)
    module.setup()
    assert module.corpus.num_files == 17
    assert {path.split("/")[0] for path in (entry.path for entry in module.eval_manifest.entries)} == {
        "music",
        "speech",
    }
    loader = module.train_dataloader()
    sources = [source for _ in range(2) for batch in loader for source in batch.sources]
    assert Counter(source.split("/")[0] for source in sources) == {"music": 600, "speech": 200}
    held_out = {entry.path for entry in module.eval_manifest.entries}
    assert not held_out & {source.split("@")[0] for source in sources}
    other = mixed_settings(make_settings, sets)
    other.mix["music"].weight = 2.0
    changed = AudioDataModule(other, 5, tmp_path / "cache", lambda line: None)
    changed.setup()
    assert changed.state_dict()["train_digest"] != module.state_dict()["train_digest"]


def test_a_list_with_weights_in_a_mix_and_alone(make_settings, sets, tmp_path):
    path = tmp_path / "list.csv"
    rows = [f"{number:02d}.wav,train,{4 if number == 0 else 1}" for number in range(4)]
    path.write_text("\n".join(["path,split,weight", *rows, "04.wav,valid,", ""]))
    selection = {"type": "TrackList", "config": {"file": str(path)}}
    cache = {"cache_dir": tmp_path / "cache", "report": lambda line: None}
    alone = prepare_corpus(make_settings(root=str(sets / "speech"), selection=selection), **cache)
    assert alone.shares == (Share("all", 4, 1.0, (4.0, 1.0, 1.0, 1.0)),)
    settings = make_settings(
        source="mix",
        mix={"music": part(sets / "music", 1.0), "speech": part(sets / "speech", 1.0, selection)},
    )
    mixed = prepare_corpus(settings, **cache)
    assert mixed.shares[1] == Share("speech", 4, 1.0, (4.0, 1.0, 1.0, 1.0))
    train = TrainSegments(mixed.train, FORM, 0, mixed.shares)
    order = train.mixture.order(0, 2000)
    met = Counter(
        train[SimpleNamespace(item=int(item), epoch=0, position=0)].source.split("@")[0]
        for item in order[:400]
    )
    assert met["speech/00.wav"] > 2 * met["speech/03.wav"] > 0


def test_a_bad_file_is_replaced_by_one_of_its_set(make_settings, sets, tmp_path):
    cache = {"cache_dir": tmp_path / "cache", "report": lambda line: None}
    corpus = prepare_corpus(mixed_settings(make_settings, sets), **cache)
    train = TrainSegments(corpus.train, FORM, 0, corpus.shares)
    for path in sorted((sets / "music").iterdir())[:5]:
        path.write_bytes(b"")
    for item in train.mixture.order(0, 300).tolist():
        key = SimpleNamespace(item=item, epoch=0, position=0)
        segment = train[key]
        assert all(f"/{segment.source.split('/')[0]}/" in bad.path for bad in segment.bad)


def test_without_shares_nothing_is_mixed(sets, tmp_path):
    assert TrainSegments(scan(sets / "music", cache_dir=tmp_path / "cache"), FORM, 0).mixture is None


def test_a_missing_folder_of_a_mix_is_named(make_settings, sets, tmp_path):
    settings = make_settings(source="mix", mix={"gone": part(sets / "gone", 1.0)})
    with pytest.raises(DataError, match=r"data\.mix\.gone\.root=.* is not a folder"):
        prepare_corpus(settings, cache_dir=tmp_path / "cache", report=lambda line: None)

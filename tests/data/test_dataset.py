import numpy as np
import pytest
import soundfile
import torch

from pipeline.data.dataset import EvalSegments, SegmentFormat, TrainSegments, collate
from pipeline.data.manifest import scan
from pipeline.data.sampler import SampleKey
from pipeline.errors import DataError

FORM = SegmentFormat(num_samples=4000, sample_rate_hz=16000, channels=2)


@pytest.fixture(scope="module")
def manifest(good_root, tmp_path_factory):
    return scan(good_root, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def ramps(tmp_path):
    """Files whose samples tell file and place: sample k of file f is f + k / 100000."""
    for number, length in enumerate([16000, 64000, 3000]):
        ramp = number + np.arange(length) / 100000
        soundfile.write(tmp_path / f"{number}.wav", ramp, 16000, subtype="FLOAT")
    return scan(tmp_path, cache_dir=tmp_path / "cache")


def places(dataset, keys):
    """File and first sample of each crop."""
    first = [dataset[key].waveform[0, 0] for key in keys]
    return [(int(value), round(float(value - int(value)) * 100000)) for value in first]


def test_files_own_indices_by_their_length(ramps):
    dataset = TrainSegments(ramps, FORM, seed=0)
    assert len(dataset) == 4 + 16 + 1
    files = [place[0] for place in places(dataset, [SampleKey(item, 0, item) for item in range(21)])]
    assert files == [0] * 4 + [1] * 16 + [2]


def test_crops_depend_on_seed_epoch_and_item_only(ramps):
    keys = [SampleKey(item, 5, item) for item in range(40)]
    first = places(TrainSegments(ramps, FORM, seed=1), keys)
    assert places(TrainSegments(ramps, FORM, seed=1), keys[::-1]) == first[::-1]
    assert (
        places(TrainSegments(ramps, FORM, seed=1), [key._replace(position=key.position + 9) for key in keys])
        == first
    )
    assert places(TrainSegments(ramps, FORM, seed=2), keys) != first
    assert places(TrainSegments(ramps, FORM, seed=1), [key._replace(epoch=6) for key in keys]) != first


def test_crops_lie_anywhere_in_the_file(ramps):
    dataset = TrainSegments(ramps, FORM, seed=1)
    starts = [start for file, start in places(dataset, [SampleKey(4, epoch, 0) for epoch in range(400)])]
    assert 0 <= min(starts) < 1500
    assert 58500 < max(starts) <= 60000
    assert abs(np.mean(starts) - 30000) < 3000


def test_indices_beyond_the_last_are_other_crops_of_the_same_files(ramps):
    dataset = TrainSegments(ramps, FORM, seed=1)
    (file, start), (other_file, other_start) = places(dataset, [SampleKey(4, 0, 0), SampleKey(4 + 21, 0, 0)])
    assert file == other_file
    assert start != other_start


def test_segments_of_every_format_have_one_form(manifest):
    batch = collate(
        [TrainSegments(manifest, FORM, seed=0)[SampleKey(item, 0, item)] for item in range(0, 100, 7)]
    )
    assert batch.waveform.shape == (15, 2, 4000)
    assert batch.waveform.dtype == torch.float32
    assert batch.position.tolist() == list(range(0, 100, 7))
    assert batch.position.dtype == torch.int64
    assert len(batch.paths) == 15
    assert batch.bad == ()
    assert batch.waveform.abs().amax(dim=(1, 2)).min() > 0.05


def test_short_file_is_padded_with_silence(ramps):
    segment = TrainSegments(ramps, FORM, seed=0)[SampleKey(20, 0, 0)]
    assert (segment.waveform[:, :3000] > 1.9).all()
    assert not segment.waveform[:, 3000:].any()


def test_file_that_fails_is_replaced_by_the_same_other_each_time(ramps):
    dataset = TrainSegments(ramps, FORM, seed=0)
    (ramps.root / "1.wav").write_bytes((ramps.root / "1.wav").read_bytes()[:2000])
    keys = [SampleKey(item, 2, item) for item in range(21)]
    segments = [dataset[key] for key in keys]
    again = [dataset[key] for key in reversed(keys)][::-1]
    for segment, other in zip(segments, again, strict=True):
        np.testing.assert_array_equal(segment.waveform, other.waveform)
        assert segment[1:] == other[1:]
        assert not segment.path.endswith("1.wav")
    assert {bad.path for segment in segments for bad in segment.bad} == {str(ramps.root / "1.wav")}
    assert all("truncated" in bad.reason for bad in collate(segments).bad)
    assert all(segment.bad for segment in segments[4:20])


def test_nothing_readable_at_all_stops_the_run(ramps):
    train, evaluation = TrainSegments(ramps, FORM, seed=0), EvalSegments(ramps, FORM)
    for path in ramps.root.glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match=r"20 audio files in a row.*cannot be opened"):
        train[SampleKey(0, 0, 0)]
    with pytest.raises(DataError, match=r"no audio file for evaluation"):
        evaluation[0]


def test_evaluation_segments_lie_side_by_side(ramps):
    dataset = EvalSegments(ramps, FORM)
    expected = [(0, k * 4000) for k in range(4)] + [(1, k * 4000) for k in range(16)] + [(2, 0)]
    assert places(dataset, range(len(dataset))) == expected
    assert [dataset[number].position for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("most", [1, 5, 20, 21, 100])
def test_evaluation_may_be_thinned_evenly(ramps, most):
    dataset = EvalSegments(ramps, FORM, max_segments=most)
    assert len(dataset) == min(most, 21)
    found = places(dataset, range(len(dataset)))
    assert found == sorted(set(found))
    if most == 5:
        assert [file for file, _ in found] == [0, 1, 1, 1, 1]


def test_bad_evaluation_file_is_replaced_by_the_next(ramps):
    dataset = EvalSegments(ramps, FORM)
    (ramps.root / "0.wav").unlink()
    segment = dataset[2]
    assert segment.path.endswith("1.wav")
    assert segment.position == 2
    assert {bad.path for bad in segment.bad} == {str(ramps.root / "0.wav")}


def test_rate_and_channels_are_converted(tmp_path, make_signal):
    soundfile.write(tmp_path / "a.wav", make_signal(48000, 6, 1.0), 48000, format="WAVEX")
    manifest = scan(tmp_path, cache_dir=tmp_path / "cache")
    mono = EvalSegments(manifest, SegmentFormat(8000, 8000, 1))[0]
    assert mono.waveform.shape == (1, 8000)
    assert np.isfinite(mono.waveform).all()

import numpy as np
import pytest
import torch

from pipeline.data.resample import resample
from pipeline.errors import ConfigError
from pipeline.inference.channels import group_channels, ungroup_channels
from pipeline.inference.chunked import ChunkPlan, reconstruct_blocks
from pipeline.inference.streams import SlidingWindow, cut_blocks, resample_blocks

TOLERANCE = 1e-5
SHORTEST = 1e-6  # seconds: one latent hop per chunk


def _cut(waveform, sizes):
    """A stream of blocks of these sizes, repeated."""
    at, turn = 0, 0
    while at < waveform.shape[-1]:
        yield waveform[:, at : at + sizes[turn % len(sizes)]]
        at += sizes[turn % len(sizes)]
        turn += 1


def _chunked(codec, waveform, chunk_seconds, sizes=(1000,)):
    return np.concatenate(list(reconstruct_blocks(codec, _cut(waveform, sizes), chunk_seconds)), axis=-1)


def _whole(codec, waveform):
    return codec.reconstruct(torch.from_numpy(waveform).unsqueeze(0)).squeeze(0).numpy()


def _error(estimate, expected):
    """Largest error relative to the peak: random models do not keep to full scale 1.0."""
    peak = np.abs(expected).max()
    assert peak > 0.01  # the comparison means something
    return np.abs(estimate - expected).max() / peak


def _assert_equal(estimate, expected):
    assert estimate.dtype == np.float32
    assert estimate.shape == expected.shape
    assert _error(estimate, expected) <= TOLERANCE


@pytest.mark.parametrize("complex_valued", [True, False], ids=["complex", "real"])
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
@pytest.mark.parametrize("time_stride", [2, 8])
@pytest.mark.parametrize("dilation_base", [1, 3])
def test_chunks_equal_the_whole(make_codec, make_audio, complex_valued, pad_mode, time_stride, dilation_base):
    codec = make_codec(
        complex_valued=complex_valued, pad_mode=pad_mode, time_stride=time_stride, dilation_base=dilation_base
    )
    plan = ChunkPlan.of(codec, 0.1)
    chunk, margin = plan.chunk_samples, plan.margin_samples
    for num_samples in (chunk + margin + 1, 2 * chunk + margin, 5 * chunk + 7):
        waveform = make_audio(num_samples)
        _assert_equal(_chunked(codec, waveform, 0.1), _whole(codec, waveform))


@pytest.mark.parametrize("kernel_size", [pytest.param(2, marks=pytest.mark.long), 4])
def test_even_kernels_reach_further_to_one_side(make_codec, make_audio, kernel_size):
    kernels = {
        "kernel_size": kernel_size,
        "residual_kernel_size": kernel_size,
        "last_kernel_size": kernel_size,
    }
    codec = make_codec(time_stride=8, **kernels)
    waveform = make_audio(6000)
    _assert_equal(_chunked(codec, waveform, SHORTEST), _whole(codec, waveform))


def test_every_length_around_a_border(make_codec, make_audio):
    codec = make_codec(time_stride=2, n_residual_layers=0, last_kernel_size=1)
    plan = ChunkPlan.of(codec, SHORTEST)
    assert plan.chunk_samples == codec.autoencoder.latent_hop_samples
    end = 2 * plan.chunk_samples + plan.margin_samples
    waveform = make_audio(end + 3)
    for num_samples in (*range(end - 3, end + 4), *range(1, end, 29)):
        given = waveform[:, :num_samples]
        _assert_equal(_chunked(codec, given, SHORTEST), _whole(codec, given))


def test_without_the_margin_there_is_a_seam(make_codec, make_audio, monkeypatch):
    codec = make_codec()
    waveform = make_audio(8000)
    plan = ChunkPlan(1600, 64)
    monkeypatch.setattr(ChunkPlan, "of", lambda codec, chunk_seconds: plan)
    assert _error(_chunked(codec, waveform, 0.1), _whole(codec, waveform)) > 100 * TOLERANCE


@pytest.mark.long
def test_the_blocks_of_the_input_do_not_matter(make_codec, make_audio):
    codec = make_codec(channels=2)
    waveform = make_audio(9000, channels=2)
    expected = _chunked(codec, waveform, 0.1, (9000,))
    for sizes in ((1,), (7, 4000, 1), (1600,)):
        assert np.array_equal(_chunked(codec, waveform, 0.1, sizes), expected)


@pytest.mark.long
def test_pieces_are_bounded(make_codec, make_audio, monkeypatch):
    codec = make_codec()
    plan, lengths = ChunkPlan.of(codec, 0.1), []
    reconstruct = codec.reconstruct
    monkeypatch.setattr(
        codec, "reconstruct", lambda piece: lengths.append(piece.shape[-1]) or reconstruct(piece)
    )
    _chunked(codec, make_audio(30000), 0.1)
    assert len(lengths) > 10
    assert max(lengths) <= plan.chunk_samples + 2 * plan.margin_samples


def test_a_model_with_global_statistics_takes_one_chunk(make_codec, make_audio):
    codec = make_codec(norm="group_norm")
    waveform = make_audio(3200)
    assert np.array_equal(_chunked(codec, waveform, 0.2), _whole(codec, waveform))
    with pytest.raises(ConfigError, match=r"chunk_seconds is shorter than the audio.*group_norm"):
        _chunked(codec, make_audio(3233), 0.2)


@pytest.mark.parametrize("chunk_seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_chunks_of_no_length(make_codec, chunk_seconds):
    with pytest.raises(ConfigError, match=r"chunk_seconds=.* must be a positive number"):
        ChunkPlan.of(make_codec(), chunk_seconds)


def test_a_mono_model_takes_channels_one_by_one(make_codec, make_audio):
    codec = make_codec(channels=1)
    waveform = make_audio(5000, channels=3)
    estimate = _chunked(codec, waveform, 0.1)
    for channel in range(3):
        _assert_equal(estimate[channel : channel + 1], _whole(codec, waveform[channel : channel + 1]))


def test_a_stereo_model_takes_pairs(make_codec, make_audio):
    codec = make_codec(channels=2)
    waveform = make_audio(5000, channels=3)
    estimate = _chunked(codec, waveform, 0.1)
    _assert_equal(estimate[:2], _whole(codec, waveform[:2]))
    last = _whole(codec, waveform[[2, 2]]).mean(axis=0, keepdims=True)
    _assert_equal(estimate[2:], last)
    _assert_equal(_chunked(codec, waveform[2:], 0.1), last)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_channel_groups_come_back(make_audio, channels, group_size):
    waveform = make_audio(50, channels=channels)
    groups = group_channels(waveform, group_size)
    assert groups.shape == (-(-channels // group_size), group_size, 50)
    np.testing.assert_allclose(ungroup_channels(groups, channels), waveform, rtol=1e-6)


@pytest.mark.parametrize(
    "rates", [(8000, 44100), (96000, 44100), (44100, 48000), (48000, 48000), (44100, 8000)]
)
@pytest.mark.parametrize("num_samples", [1, 200000])
def test_resampling_a_stream_equals_resampling_the_whole(make_audio, rates, num_samples):
    waveform = make_audio(num_samples, channels=2)
    streamed = np.concatenate(list(resample_blocks(_cut(waveform, (65536, 1)), *rates)), axis=-1)
    assert np.array_equal(streamed, resample(waveform, *rates))


def test_a_window_moves_over_a_stream(make_audio):
    waveform = make_audio(100, channels=2)
    window = SlidingWindow(_cut(waveform, (30,)))
    assert np.array_equal(window.read(0, 40), waveform[:, :40])
    assert np.array_equal(window.read(10, 50), waveform[:, 10:50])
    assert not window.ended
    assert np.array_equal(window.read(50, 120), waveform[:, 50:])
    assert window.ended and window.end == 100


@pytest.mark.parametrize("num_samples", [1, 30, 31, 100])
def test_cutting_a_stream(make_audio, num_samples):
    waveform = make_audio(100)
    cut = np.concatenate(list(cut_blocks(_cut(waveform, (30,)), num_samples)), axis=-1)
    assert np.array_equal(cut, waveform[:, :num_samples])

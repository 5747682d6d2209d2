import shutil

import pytest
import torch

from pipeline.errors import CheckpointError, ConfigError, ShapeError
from pipeline.inference.codec import AudioCodec
from pipeline.inference.locate import find_checkpoint
from pipeline.models.build import build_autoencoder


@pytest.mark.parametrize("complex_valued", [True, False])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("num_samples", [1, 500, 4097])
def test_gives_what_the_model_gives_in_evaluation(
    tmp_path, make_checkpoint, complex_valued, channels, num_samples
):
    path = make_checkpoint(tmp_path / "a.ckpt", complex_valued=complex_valued, channels=channels)
    codec = AudioCodec.load(path)
    stored = torch.load(path, weights_only=True)
    model = build_autoencoder(stored["inference"]).eval()
    model.load_state_dict(
        {name.removeprefix("autoencoder."): value for name, value in stored["state_dict"].items()}
    )
    waveform = 0.1 * torch.randn(2, channels, num_samples)
    with torch.no_grad():
        expected = model(waveform)
    latents = codec.encode(waveform)
    assert torch.equal(latents, expected.latents)
    assert torch.equal(codec.decode(latents, num_samples), expected.waveform)
    assert torch.equal(codec.reconstruct(waveform), expected.waveform)
    assert codec.sample_rate_hz == 16000
    assert not codec.reconstruct(waveform).requires_grad


def test_upcasts_other_precisions(make_codec):
    codec = make_codec()
    waveform = 0.1 * torch.randn(1, 1, 300, dtype=torch.float64)
    assert torch.equal(codec.reconstruct(waveform), codec.reconstruct(waveform.float()))


@pytest.mark.parametrize("shape", [(1, 2, 100), (2, 100), (1, 1, 0)])
def test_refuses_other_shapes(make_codec, shape):
    with pytest.raises(ShapeError, match=str(shape[-1])):
        make_codec().encode(torch.zeros(shape))


def test_refuses_too_few_latents(make_codec):
    codec = make_codec()
    with pytest.raises(ShapeError, match="400 samples"):
        codec.decode(codec.encode(torch.zeros(1, 1, 100)), 400)


def test_prefers_best_then_last_and_obeys_a_choice(tmp_path, make_checkpoint):
    last = make_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert find_checkpoint(tmp_path / "run") == last
    with pytest.raises(CheckpointError, match=r"no best\.ckpt in"):
        find_checkpoint(tmp_path / "run", "best")
    best = last.with_name("best.ckpt")
    shutil.copy(last, best)
    assert find_checkpoint(tmp_path / "run") == best
    assert find_checkpoint(tmp_path / "run", "last") == last
    assert find_checkpoint(tmp_path / "run/checkpoints") == best
    assert find_checkpoint(last) == last
    with pytest.raises(ConfigError, match="--checkpoint best"):
        find_checkpoint(last, "best")


def test_follows_ckpt_dir(tmp_path, make_checkpoint):
    path = make_checkpoint(tmp_path / "elsewhere/last.ckpt")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"trainer:\n  trainer:\n    ckpt_dir: {path.parent}\n")
    assert find_checkpoint(run) == path
    assert AudioCodec.load(run).channels == 1


def test_names_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such run directory or checkpoint"):
        find_checkpoint(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("trainer: {trainer: {ckpt_dir: null}}\n")
    with pytest.raises(CheckpointError, match=r"no best\.ckpt or last\.ckpt in .*checkpoints"):
        find_checkpoint(tmp_path)


def _stored(path, **changes):
    torch.save(torch.load(path, weights_only=True) | changes, path)


def test_refuses_checkpoints_that_do_not_fit(tmp_path, make_checkpoint):
    path = make_checkpoint(tmp_path / "a.ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        AudioCodec.load(path)
    path.write_bytes(whole)
    _stored(path, state_dict={})
    with pytest.raises(CheckpointError, match="does not fit"):
        AudioCodec.load(path)
    _stored(path, inference={"version": 99})
    with pytest.raises(CheckpointError, match="version 1; found: 99"):
        AudioCodec.load(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="found: none"):
        AudioCodec.load(path)

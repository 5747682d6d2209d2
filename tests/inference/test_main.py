import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pipeline.data.audio_io import AudioInfo, read_crop
from pipeline.data.resample import resample
from pipeline.errors import DataError
from pipeline.inference.__main__ import main
from pipeline.inference.audio_files import audio_sink, inspect_audio, output_format, read_blocks
from pipeline.inference.codec import AudioCodec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mono(tmp_path_factory, make_checkpoint):
    return make_checkpoint(tmp_path_factory.mktemp("mono") / "run/checkpoints/best.ckpt").parents[1]


@pytest.fixture(scope="module")
def stereo(tmp_path_factory, make_checkpoint):
    path = tmp_path_factory.mktemp("stereo") / "run/checkpoints/last.ckpt"
    return make_checkpoint(path, channels=2, complex_valued=False, time_stride=8).parents[1]


def _reconstruct(run, source, target, *options):
    assert main([str(run), str(source), str(target), "--device", "cpu", *options]) == 0
    return target


def _whole(run, source):
    """The reconstruction of a mono file in one piece, without streams."""
    codec = AudioCodec.load(run)
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    at_model_rate = resample(samples.T, rate, codec.sample_rate_hz)
    estimate = codec.reconstruct(torch.from_numpy(at_model_rate).unsqueeze(0)).squeeze(0).numpy()
    return resample(estimate, codec.sample_rate_hz, rate)[:, : len(samples)]


@pytest.mark.parametrize("model", ["mono", "stereo"])
@pytest.mark.parametrize("rate", [pytest.param(8000, marks=pytest.mark.long), 11025, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2, pytest.param(5, marks=pytest.mark.long)])
def test_keeps_length_rate_and_channels(request, tmp_path, write_audio, model, rate, channels):
    run = request.getfixturevalue(model)
    for num_samples in (1, rate // 5, rate // 2 + 3):
        source = write_audio("in.wav", num_samples, rate, channels)
        target = _reconstruct(run, source, tmp_path / "out.wav", "--chunk-seconds", "0.25")
        info = soundfile.info(target)
        assert (info.frames, info.samplerate, info.channels) == (num_samples, rate, channels)
        assert info.subtype == "FLOAT"
        assert np.isfinite(soundfile.read(target)[0]).all()


@pytest.mark.parametrize("rate", [16000, 44100])
def test_streams_what_the_whole_gives(mono, tmp_path, write_audio, rate):
    source = write_audio("in.flac", 3 * rate + 1, rate)
    target = _reconstruct(mono, source, tmp_path / "out.wav", "--chunk-seconds", "0.3")
    estimate, expected = soundfile.read(target, dtype="float32")[0], _whole(mono, source)[0]
    assert np.abs(estimate - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "extension", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "AU", "caf", "w64", "rf64"]
)
def test_two_runs_give_the_same_bytes(stereo, tmp_path, write_audio, extension):
    source = write_audio("in.wav", 48017, 48000, 2)
    first = _reconstruct(stereo, source, tmp_path / f"first.{extension}")
    second = _reconstruct(stereo, source, tmp_path / f"second.{extension}")
    assert first.read_bytes() == second.read_bytes()
    info = soundfile.info(first)
    assert (info.frames, info.samplerate, info.channels) == (48017, 48000, 2)
    assert soundfile.read(first)[0].std() > 0.01  # the checksums of its pages still fit


def test_wav_files_hold_no_time(tmp_path):
    with audio_sink(tmp_path / "a.wav", AudioInfo(10, 48000, 1, "")) as sink:
        sink.write(np.full((1, 10), 0.5, np.float32))
    content = (tmp_path / "a.wav").read_bytes()
    assert struct.unpack_from("<4sIIIfI", content, content.index(b"PEAK")) == (b"PEAK", 16, 1, 0, 0.5, 0)


def test_as_a_program(mono, tmp_path, write_audio):
    """In another process the same bytes, and a line that says what was done with which model."""
    source, target = write_audio("in.wav", 3000, 8000), tmp_path / "out.wav"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [
        sys.executable,
        "-m",
        "pipeline.inference",
        str(mono),
        str(source),
        str(target),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        f"{target}: 0.38 s, 8000 Hz, 1 channel(s); model {mono}/checkpoints/best.ckpt on cpu" in done.stdout
    )
    assert target.read_bytes() == _reconstruct(mono, source, tmp_path / "again.wav").read_bytes()


def test_takes_any_file_name(mono, tmp_path, write_audio, capsys):
    source = write_audio("in.wav", 100, 8000)
    for name in ("Übung 音.wav", os.fsdecode(b"latin-1 \xfc.wav")):
        copy = source.rename(tmp_path / name)
        source = _reconstruct(mono, copy, tmp_path / f"of {name}")
    assert "of latin-1 \\udcfc.wav: 0.01 s" in capsys.readouterr().out


@pytest.mark.long
def test_a_long_file_needs_little_memory(tmp_path, make_checkpoint):
    run = make_checkpoint(tmp_path / "tiny.ckpt", sample_rate_hz=1000, n_residual_layers=0)
    source, rate = tmp_path / "ten minutes.wav", 8000
    with soundfile.SoundFile(source, "w", rate, 2, "PCM_16") as file:
        for _ in range(600):
            file.write(0.1 * np.random.default_rng(0).standard_normal((rate, 2)))
    code = (
        "import resource, sys; from pipeline.inference.__main__ import main\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(run),
        str(source),
        str(tmp_path / "out.wav"),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split()[-2:])  # KiB
    assert after < 2 << 20
    assert after - before < 300 << 10
    assert soundfile.info(tmp_path / "out.wav").frames == 600 * rate


def test_clipping_is_reported(tmp_path, write_audio, stereo, capsys):
    source = write_audio("in.wav", 20000, 16000, 2)
    loud = _reconstruct(stereo, source, tmp_path / "loud.wav")
    assert "clipped" not in capsys.readouterr().out
    _reconstruct(stereo, source, tmp_path / "out.flac")
    samples = soundfile.read(loud)[0]
    beyond = int((np.abs(samples) > 1).sum())
    assert beyond > 0
    assert f"{beyond} samples beyond full scale were clipped" in capsys.readouterr().out
    assert np.abs(soundfile.read(tmp_path / "out.flac")[0] - samples.clip(-1, 1)).max() < 2e-7


def _fails(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_user_errors_are_one_sentence(mono, tmp_path, write_audio, capsys, monkeypatch):
    good, text = write_audio("in.wav", 1000, 8000), tmp_path / "text.wav"
    text.write_text("no music\n" * 100)
    out = tmp_path / "out.wav"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no such run directory or checkpoint" in _fails(capsys, tmp_path / "nowhere", good, out)
    assert "no best.ckpt or last.ckpt" in _fails(capsys, tmp_path, good, out)
    assert "no last.ckpt" in _fails(capsys, mono, good, out, "--checkpoint", "last")
    assert "No such file" in _fails(capsys, mono, tmp_path / "absent.wav", out)
    assert "no audio header" in _fails(capsys, mono, text, out)
    assert "did you mean '.wav'? Valid: .aif," in _fails(capsys, mono, good, tmp_path / "out.wave")
    assert "unknown output format ''" in _fails(capsys, mono, good, tmp_path / "out")
    assert "is the input itself" in _fails(capsys, mono, good, good)
    assert "No such file or directory" in _fails(capsys, mono, good, tmp_path / "absent/out.wav")
    assert "44100 Hz cannot be written as .opus" in _fails(
        capsys, mono, write_audio("cd.wav", 1000, 44100), tmp_path / "out.opus"
    )
    assert "--device cpu" in _fails(capsys, mono, good, out, "--device", "cuda")
    assert "chunk_seconds=0" in _fails(capsys, mono, good, out, "--chunk-seconds", "0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cd.wav", "in.wav", "text.wav"]


def test_the_input_is_recognised_under_another_name(mono, tmp_path, write_audio, capsys):
    source = write_audio("in.wav", 1000, 8000)
    (tmp_path / "link.wav").symlink_to(source)
    assert "is the input itself" in _fails(capsys, mono, source, tmp_path / "link.wav")


def test_a_file_that_breaks_off_leaves_the_old_output(mono, tmp_path, capsys):
    samples = np.zeros((200000, 1), np.float32)
    samples[150001] = np.nan  # the header check looks at start, middle and end only
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, samples, 16000, subtype="FLOAT")
    target.write_bytes(b"old")
    assert "NaN or infinite samples" in _fails(capsys, mono, source, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "out.wav"]


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("extension", ["ogg", "opus", "mp3", "flac", "wav"])
def test_reads_in_one_pass_what_crops_give(write_audio, extension, channels):
    options = {"format": "OGG", "subtype": "OPUS"} if extension == "opus" else {}
    channels = min(channels, 2) if extension == "mp3" else channels
    path = write_audio(f"a.{extension}", 200001, 48000, channels, **options)
    info = inspect_audio(path)
    streamed = np.concatenate(list(read_blocks(path, info)), axis=-1)
    assert streamed.shape == (channels, 200001)
    assert np.abs(streamed - read_crop(path, 0, 200001)).max() <= 1e-6


@pytest.mark.parametrize("name", ["a.ogg", "a.wav"])
def test_surround_channels_keep_their_places(tmp_path, name):
    """Six tones of their own, written and read back in WAV order; the fourth channel takes deep ones only."""
    frequencies = np.array([20, 30, 40, 6, 50, 60]) * 1e-3
    tones = np.sin(np.arange(48000) * frequencies[:, None]).astype(np.float32) * 0.3
    info = AudioInfo(48000, 48000, 6, "FLOAT")
    with audio_sink(tmp_path / name, info) as sink:
        sink.write(tones)
    back = read_crop(tmp_path / name, 0, 48000)
    for channel in range(6):
        assert np.corrcoef(back[channel], tones[channel])[0, 1] > 0.95


def test_formats_follow_the_extension():
    short, long = AudioInfo(100, 48000, 2, "PCM_16"), AudioInfo(1 << 30, 48000, 2, "PCM_16")
    assert output_format(Path("a.WAV"), short) == ("WAV", "FLOAT")
    assert output_format(Path("a.wav"), long) == ("RF64", "FLOAT")
    assert output_format(Path("a.flac"), long) == ("FLAC", "PCM_24")
    with pytest.raises(DataError, match=r"too many for AIFF; use \.wav"):
        output_format(Path("a.aiff"), long)

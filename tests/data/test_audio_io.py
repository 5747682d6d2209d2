import subprocess
import sys

import numpy as np
import pytest
import soundfile

from pipeline.data.audio_io import load_segment, probe, read_crop
from pipeline.data.bad_files import UnreadableAudioError
from pipeline.data.resample import resample
from pipeline.data.sample_form import convert_channels

LOSSY = (".mp3", ".ogg", ".opus")


def decode_whole(path):
    """(C, S) by one read from the start, the reference that no seek has touched."""
    with soundfile.SoundFile(path) as file:
        return file.read(dtype="float32", always_2d=True).T


def test_header_tells_what_can_be_decoded(good_file):
    info = probe(good_file.path)
    assert info[1:3] == (good_file.rate, good_file.channels)
    padding = (
        3 * 1152 if good_file.path.name == "no length header.mp3" else 0
    )  # what the encoder put around it
    assert 0 <= info.num_frames - good_file.rate * good_file.duration_s <= padding
    assert read_crop(good_file.path, 0, info.num_frames).shape == (good_file.channels, info.num_frames)


def test_crop_equals_the_same_part_of_the_whole_file(good_file):
    path = good_file.path
    whole = decode_whole(path)
    num_frames = whole.shape[1]
    # 1e-6: MP3 and Opus decoders round differently after a seek. Opus below about 20 kbit/s would need more.
    tolerance = 1e-6 if path.suffix in LOSSY else 0.0
    rng = np.random.default_rng(1)
    starts = [0, 1, num_frames // 2, num_frames - 1000, num_frames - 1, *rng.integers(0, num_frames, 15)]
    for start in map(int, starts):
        length = min(3000, num_frames - start)
        crop = read_crop(path, start, length)
        assert crop.dtype == np.float32
        np.testing.assert_allclose(crop, whole[:, start : start + length], rtol=0, atol=tolerance)


def test_vorbis_crops_near_the_end_are_right_too(tmp_path):
    # A soft end makes a long last page, and seeks into that are off by what its end trims.
    t = np.arange(48000 * 8) / 48000
    path = tmp_path / "fading.ogg"
    fading = 0.3 * np.sin(2 * np.pi * 220 * t) * np.linspace(1, 0, len(t))
    soundfile.write(path, fading, 48000, format="OGG", subtype="VORBIS", compression_level=1.0)
    whole = decode_whole(path)
    for start in range(280000, 383000, 5000):
        np.testing.assert_allclose(read_crop(path, start, 1000), whole[:, start : start + 1000], atol=1e-6)


@pytest.mark.parametrize("sample_rate_hz", [16000, 44100])
def test_segment_equals_the_same_part_of_the_whole_converted_file(good_file, sample_rate_hz):
    path = good_file.path
    info = probe(path)
    whole = convert_channels(decode_whole(path), 2)
    whole = np.pad(resample(whole, info.sample_rate_hz, sample_rate_hz), ((0, 0), (0, 5000)))
    for start in (0, 3001, whole.shape[1] - 7000):
        segment = load_segment(path, info, start, 4000, sample_rate_hz=sample_rate_hz, channels=2)
        np.testing.assert_allclose(segment, whole[:, start : start + 4000], rtol=0, atol=3e-6)


def test_file_shorter_than_a_segment_is_followed_by_silence(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.full((1, 1), 0.5), 8000, subtype="FLOAT")
    info = probe(tmp_path / "one.wav")
    segment = load_segment(tmp_path / "one.wav", info, 0, 100, sample_rate_hz=8000, channels=1)
    assert segment.shape == (1, 100)
    assert segment[0, 0] == 0.5
    assert not segment[0, 1:].any()
    beyond = load_segment(tmp_path / "one.wav", info, 50, 100, sample_rate_hz=8000, channels=2)
    assert beyond.shape == (2, 100)
    assert not beyond.any()


def test_every_bad_file_is_refused_with_its_reason(mixed):
    for name, reason in mixed.reasons.items():
        with pytest.raises(UnreadableAudioError, match=reason) as raised:
            probe(mixed.root / name)
        assert raised.value.bad_file.path == str(mixed.root / name)


def test_file_cut_almost_at_its_end_is_refused(good_root, tmp_path):
    for name in ("deep/er/wav16.wav", "flac16.flac", "cbr.mp3", "vorbis.ogg", "deep/opus.opus"):
        content = (good_root / name).read_bytes()
        path = tmp_path / name.replace("/", " ")
        path.write_bytes(content[: len(content) * 97 // 100])
        with pytest.raises(UnreadableAudioError, match="truncated"):
            probe(path)


def test_wav_written_to_a_pipe_is_accepted(good_root, tmp_path):
    content = bytearray((good_root / "deep/er/wav16.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(content)
    assert probe(tmp_path / "streamed.wav").num_frames == 88200


def test_mp3_without_length_header_counts_what_it_holds(good_root, tmp_path):
    content = bytearray((good_root / "cbr.mp3").read_bytes())
    frame = content.index(b"Info")
    content[frame : frame + 4] = b"\0\0\0\0"
    path = tmp_path / "plain.mp3"
    path.write_bytes(content)
    with soundfile.SoundFile(path) as file:
        assert len(file.read()) == probe(path).num_frames < file.frames


def test_nan_in_mid_file_is_met_by_the_crop_that_holds_it(tmp_path):
    signal = np.zeros((48000, 1), np.float32)
    signal[20000] = np.inf
    soundfile.write(tmp_path / "spot.wav", signal, 48000, subtype="FLOAT")
    probe(tmp_path / "spot.wav")
    with pytest.raises(UnreadableAudioError, match="NaN or infinite samples between frames 19000 and 21000"):
        read_crop(tmp_path / "spot.wav", 19000, 2000)


def test_vanished_file_is_a_bad_file(tmp_path):
    with pytest.raises(UnreadableAudioError, match="cannot be opened"):
        read_crop(tmp_path / "gone.wav", 0, 10)


def test_surround_is_mixed_to_stereo_by_the_standard(good_root):
    whole = decode_whole(good_root / "deep/surround.wav")
    left, right, centre, _, rear_left, rear_right = whole
    share = 1 / (1 + 2 * 0.7071)
    expected = share * np.stack(
        [left + 0.7071 * (centre + rear_left), right + 0.7071 * (centre + rear_right)]
    )
    np.testing.assert_allclose(convert_channels(whole, 2), expected, atol=1e-6)
    np.testing.assert_allclose(convert_channels(whole, 1)[0], whole.mean(axis=0), atol=1e-6)


def test_surround_of_vorbis_and_opus_comes_in_wav_order(tmp_path):
    for subtype in ("VORBIS", "OPUS"):
        path = tmp_path / f"{subtype}.ogg"
        # libsndfile writes channels as given; the formats define their order as L C R RL RR LFE.
        soundfile.write(
            path, make_tones([300, 500, 700, 900, 1100, 60]), 48000, format="OGG", subtype=subtype
        )
        crop = read_crop(path, 0, 48000)
        loudest = [int(np.argmax(np.abs(np.fft.rfft(channel)))) for channel in crop]
        assert loudest == [300, 700, 500, 60, 900, 1100]


def make_tones(frequencies_hz):
    t = np.arange(48000) / 48000
    return np.stack([0.2 * np.sin(2 * np.pi * frequency * t) for frequency in frequencies_hz], 1)


@pytest.mark.parametrize(("given", "wanted"), [(1, 2), (1, 6), (2, 1), (8, 2), (7, 2), (6, 4), (2, 6)])
def test_channel_conversion_never_clips_and_keeps_equal_channels_equal(given, wanted):
    waveform = np.ones((given, 10), np.float32)
    converted = convert_channels(waveform, wanted)
    assert converted.shape == (wanted, 10)
    np.testing.assert_allclose(converted[: min(given, wanted)], 1.0, atol=1e-6)


def test_one_channel_is_copied_to_all():
    waveform = np.random.default_rng(0).standard_normal((1, 10)).astype(np.float32)
    assert (convert_channels(waveform, 3) == waveform).all()


def test_reading_headers_imports_no_torch():
    code = "import sys, pipeline.data.corpus, pipeline.data.bad_files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

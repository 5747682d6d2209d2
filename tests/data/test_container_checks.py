import pytest

from pipeline.data.container_checks import end_is_missing, has_mp3_length_header, last_mp3_frame_is_cut


def write_cut(source, target, num_bytes):
    target.write_bytes(source.read_bytes()[:-num_bytes])
    return target


def test_whole_files_miss_nothing(good_file):
    assert end_is_missing(good_file.path) == ""
    if good_file.path.suffix == ".mp3":
        assert not last_mp3_frame_is_cut(good_file.path)


@pytest.mark.parametrize(
    "name", ["deep/er/wav16.wav", "wav24.WAV", "aiff.aiff", "vorbis.ogg", "deep/opus.opus"]
)
@pytest.mark.parametrize("num_bytes", [70, 1000, 20000])
def test_missing_end_is_noticed(good_root, tmp_path, name, num_bytes):
    assert end_is_missing(write_cut(good_root / name, tmp_path / "cut", num_bytes))


def test_header_that_counts_itself_as_audio_is_borne(good_root, tmp_path):
    assert not end_is_missing(write_cut(good_root / "deep/er/wav16.wav", tmp_path / "cut", 44))


def test_wav_cut_before_its_audio(good_root, tmp_path):
    (tmp_path / "cut").write_bytes((good_root / "deep/er/wav16.wav").read_bytes()[:30])
    assert end_is_missing(tmp_path / "cut") == "the audio chunk is missing"


@pytest.mark.parametrize("name", ["cbr.mp3", "vbr.mp3", "no length header.mp3"])
def test_mp3_that_ends_inside_a_frame(good_root, tmp_path, name):
    path = good_root / name
    # The shortest frame here has 26 bytes: cuts of 1 to 3 bytes and those that leave 1 to 3 bytes are among these.
    for num_bytes in range(1, 26):
        assert last_mp3_frame_is_cut(write_cut(path, tmp_path / "cut", num_bytes)), num_bytes
    (tmp_path / "tagged").write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert not last_mp3_frame_is_cut(tmp_path / "tagged")


def test_length_header_is_found_behind_a_tag(good_root, tmp_path):
    content = (good_root / "cbr.mp3").read_bytes()
    assert has_mp3_length_header(good_root / "cbr.mp3")
    assert not has_mp3_length_header(good_root / "no length header.mp3")
    size = 5000
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, size >> 7, size & 127]) + bytes(size)
    (tmp_path / "tagged").write_bytes(tag + content)
    assert has_mp3_length_header(tmp_path / "tagged")


def test_other_formats_and_short_files_are_left_alone(tmp_path):
    for content in (b"", b"x", b"OggS", b"RIFF", b"fLaC" + bytes(100)):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert isinstance(end_is_missing(path), str)
        assert not last_mp3_frame_is_cut(path)
        assert not has_mp3_length_header(path)

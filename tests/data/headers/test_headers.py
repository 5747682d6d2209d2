"""Headers that are read without a decoder say what the decoder says, or nothing."""

import struct

import numpy as np
import pytest
import soundfile

from pipeline.data.audio_io import probe, read_crop
from pipeline.data.bad_files import UnreadableAudioError
from pipeline.data.headers import read_header
from pipeline.data.headers.flac import _coded
from pipeline.data.headers.vorbis import _checksum

KINDS = {
    "wav": {"subtype": "PCM_16"},
    "flac": {"subtype": "PCM_16"},
    "mp3": {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.3},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
}
DECODED = (
    "float.wav",  # may hold what is no number
    "wav24.WAV",
    "aiff.aiff",
    "no length header.mp3",
    "deep/opus.opus",
)


FORMAT = struct.pack("<HHIIHH", 1, 2, 44100, 176400, 4, 16)


def write(path, num_samples=40000, rate=44100, channels=2, **options):
    rng = np.random.default_rng(num_samples)
    samples = rng.standard_normal((num_samples, channels)) * 0.1
    with soundfile.SoundFile(path, "w", rate, channels, **options) as stream:
        for at in range(0, num_samples, rate):  # libsndfile's Vorbis encoder takes no long blocks
            stream.write(samples[at : at + rate])
    return path


def expected(path):
    try:
        return probe(path)
    except UnreadableAudioError:
        return None


def test_good_files(good_file):
    info = read_header(good_file.path)
    assert info == probe(good_file.path) or info is None


def test_files_in_their_usual_form_are_not_decoded(good_root, good_names):
    unknown = {name for name in good_names if read_header(good_root / name) is None}
    assert unknown <= set(DECODED), unknown


def test_no_bad_file_has_a_header(mixed):
    for name in mixed.reasons:
        assert read_header(mixed.root / name) is None, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate_and_length(tmp_path, kind, rate, channels):
    rng = np.random.default_rng(rate)
    known = 0
    for num_samples in (1, 576, 1152, 4096, 8192, *rng.integers(2000, 90000, 6), 2 * rate + 17, 300000):
        path = write(tmp_path / f"x.{kind}", int(num_samples), rate, channels, **KINDS[kind])
        info = read_header(path)
        assert info in (None, expected(path)), num_samples
        known += info is not None
        if info is not None:
            assert read_crop(path, info.num_frames - 1, 1).shape == (channels, 1)
    assert known >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_has_no_header_but_in_the_last_flac_frame(tmp_path, kind):
    content = write(tmp_path / f"x.{kind}", 200000, **KINDS[kind]).read_bytes()
    assert read_header(tmp_path / f"x.{kind}") is not None
    last_frame = content.rindex(b"\xff\xf8") if kind == "flac" else len(content)
    rng = np.random.default_rng(1)
    for length in (
        *range(0, 600, 7),
        *range(len(content) - 300, len(content)),
        *rng.integers(600, len(content), 200),
    ):
        (tmp_path / "cut").with_suffix(f".{kind}").write_bytes(content[:length])
        info = read_header((tmp_path / "cut").with_suffix(f".{kind}"))
        assert info is None or length > last_frame + 5, length


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_headers_say_what_the_decoder_says_or_nothing(tmp_path, kind):
    """Whatever byte of a header is another: the decoder is asked, or says the same.

    But for the comments of FLAC, which it refuses where they are damaged: then no crop is read.
    """
    path = write(tmp_path / f"x.{kind}", 60000, **KINDS[kind])
    content = path.read_bytes()
    rng = np.random.default_rng(2)
    for at in [*range(42 if kind == "flac" else 64), *rng.integers(64, 5000, 60)]:
        damaged = bytearray(content)
        damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        info = read_header(path)
        if info is not None:
            with soundfile.SoundFile(path) as stream:
                assert info == (stream.frames, stream.samplerate, stream.channels, stream.subtype), at


@pytest.mark.parametrize("change", ["two streams", "an offset", "a page less", "a tag behind"])
def test_ogg_that_is_not_one_whole_stream_is_decoded(tmp_path, change):
    path = write(tmp_path / "x.ogg", 300000, **KINDS["ogg"])
    content = path.read_bytes()
    pages = [number for number in range(len(content)) if content.startswith(b"OggS", number)]
    assert read_header(path) is not None
    if change == "two streams":
        content = content + write(tmp_path / "y.ogg", 200000, **KINDS["ogg"]).read_bytes()
    elif change == "an offset":
        content = content[: pages[2]] + content[pages[3] :]
    elif change == "a page less":
        content = content[: pages[-1]]
    else:
        content = content + b"TAG" + bytes(125)
    path.write_bytes(content)
    assert read_header(path) is None


@pytest.mark.parametrize("padding", [0, 100, 528, 529, 530, 1000, 4095])
@pytest.mark.parametrize("added", [0, 576, 1105, 4095])
def test_what_an_mp3_encoder_says_it_added_is_left_out(tmp_path, added, padding):
    path = write(tmp_path / "x.mp3", 60000, **KINDS["mp3"])
    content = bytearray(path.read_bytes())
    at = content.index(b"LAME", content.index(b"Xing")) + 21
    content[at : at + 3] = (added << 12 | padding).to_bytes(3)
    path.write_bytes(content)
    info = read_header(path)
    assert info is not None and info.num_frames == soundfile.info(path).frames


def test_tags_around_an_mp3_are_passed_over(tmp_path):
    path = write(tmp_path / "x.mp3", 60000, **KINDS["mp3"])
    info, size = read_header(path), 40000
    tag = b"ID3\x03\x00\x00" + bytes([0, size >> 14, size >> 7 & 127, size & 127]) + bytes(size)
    path.write_bytes(tag + path.read_bytes() + b"TAG" + bytes(125))
    assert read_header(path) == info == probe(path)


@pytest.mark.parametrize("number", [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF])
def test_numbers_of_flac_frames_are_coded_like_utf8(number):
    if not 0xD800 <= number <= 0xDFFF:
        assert _coded(number) == chr(number).encode()


def test_the_longest_numbers_of_flac_frames():
    assert _coded(0x1FFFFF) == bytes.fromhex("f7bfbfbf")
    assert _coded(0x200000) == bytes.fromhex("f888808080")
    assert _coded(0x7FFFFFFF) == bytes.fromhex("fdbfbfbfbfbf")


@pytest.mark.parametrize("name", ["short.wav", "short.flac", "short.mp3", "short.ogg"])
def test_short_files_have_no_header(tmp_path, name):
    for content in (
        b"",
        b"x",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"fLaC",
        b"fLaC" + bytes(100),
        b"OggS",
        b"ID3\3",
    ):
        (tmp_path / name).write_bytes(content)
        assert read_header(tmp_path / name) is None


def chunk(name, content, claimed=None):
    length = len(content) if claimed is None else claimed
    return name + struct.pack("<I", length) + content + bytes(len(content) % 2)


@pytest.mark.parametrize(
    ("other", "is_usual"),
    [
        (chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"Lavf58\0") + chunk(b"ICMT", b"")), True),
        (chunk(b"LIST", b"INFO"), True),
        (chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"a\0", 0xFFFFFFFF)), False),
        (chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"a\0", 5000)), False),
        (chunk(b"LIST", b"adtl" + chunk(b"labl", b"")), False),
        (chunk(b"LIST", b"INFO" + chunk(b"data", b"12")), False),
        (chunk(b"LIST", b"IN"), False),
        (chunk(b"fact", struct.pack("<I", 1000)), True),
        (chunk(b"fact", b""), False),
        (chunk(b"fact", b"12"), False),
        (chunk(b"JUNK", bytes(27)), True),
    ],
)
def test_chunks_in_which_the_wav_decoder_loses_its_way_are_shown_to_it(tmp_path, other, is_usual):
    body = b"WAVE" + chunk(b"fmt ", FORMAT) + other + chunk(b"data", bytes(4000))
    (tmp_path / "x.wav").write_bytes(chunk(b"RIFF", body))
    info = read_header(tmp_path / "x.wav")
    assert (info is not None) == is_usual
    assert info in (None, expected(tmp_path / "x.wav"))


@pytest.mark.parametrize("claimed", [300, 100000, 0xFFFFFFFF])
def test_more_mp3_frames_than_there_is_room_for_are_not_believed(tmp_path, claimed):
    path = write(tmp_path / "x.mp3", 60000, **KINDS["mp3"])
    content = bytearray(path.read_bytes())
    at = content.index(b"Xing") + 8
    content[at : at + 4] = claimed.to_bytes(4)
    path.write_bytes(content)
    assert read_header(path) is None
    with pytest.raises(UnreadableAudioError):
        probe(path)


def ogg_pages(content):
    starts = [number for number in range(len(content)) if content.startswith(b"OggS", number)]
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]


def ogg_page(header, lacing, content):
    page = bytearray(header[:26] + bytes([len(lacing)]) + lacing + content)
    page[22:26] = _checksum(bytes(page))
    return bytes(page)


def test_more_vorbis_samples_than_there_is_room_for_are_not_believed(tmp_path):
    path = write(tmp_path / "x.ogg", 60000, **KINDS["ogg"])
    *pages, last = ogg_pages(path.read_bytes())
    body = 27 + last[26]
    claim = last[:6] + struct.pack("<q", 60000 + (1 << 40)) + last[14:26]
    path.write_bytes(b"".join(pages) + ogg_page(claim, last[27:body], last[body:]))
    assert read_header(path) is None


@pytest.mark.parametrize("is_cut", [False, True])
def test_empty_packets_of_vorbis_are_passed_over(tmp_path, is_cut):
    path = write(tmp_path / "x.ogg", 300000, **KINDS["ogg"])
    pages = ogg_pages(path.read_bytes())
    page = pages[2]
    body = 27 + page[26]
    pages[2] = ogg_page(page, page[27:body] + b"\0", page[body:])
    path.write_bytes(b"".join(pages[:3] if is_cut else pages))
    assert read_header(path) in (None, expected(path))


def test_a_vorbis_file_that_ends_with_an_empty_first_page_of_audio_has_no_header(tmp_path):
    path = write(tmp_path / "x.ogg", 300000, **KINDS["ogg"])
    pages = ogg_pages(path.read_bytes())
    path.write_bytes(b"".join(pages[:2]) + ogg_page(pages[2][:6] + bytes(8) + pages[2][14:], b"\0", b""))
    assert read_header(path) is None


@pytest.mark.parametrize("claimed", [1, 3, 8])
def test_flac_frames_of_other_channels_than_the_header_says_are_decoded(tmp_path, claimed):
    path = write(tmp_path / "x.flac", 60000, **KINDS["flac"])
    content = bytearray(path.read_bytes())
    content[20] = content[20] & 0xF1 | (claimed - 1) << 1
    path.write_bytes(content)
    assert read_header(path) is None and expected(path) is None


@pytest.mark.parametrize("channels", range(1, 9))
def test_flac_of_any_number_of_channels(tmp_path, channels):
    path = write(tmp_path / "x.flac", 20000, channels=channels, subtype="PCM_24")
    assert read_header(path) == probe(path)

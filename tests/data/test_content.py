"""Digests of what files hold."""

import shutil

import pytest

from pipeline.data import content
from pipeline.data.content import PARTS, WHOLE, content_digest, way_of
from pipeline.data.contents import Contents
from pipeline.data.manifest import scan

MEBI, GIBI = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("size", "folder", "way"),
    [(MEBI, 9000 * GIBI, WHOLE), (9 * MEBI, 4 * GIBI, WHOLE), (9 * MEBI, 4 * GIBI + 1, PARTS)],
)
def test_only_large_files_of_large_folders_are_read_in_parts(size, folder, way):
    assert way_of(size, folder) == way


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0, 200_000, 524_288, 1_048_575])
def test_every_bit_counts_where_the_whole_file_is_read(file, place):
    before = content_digest(file, WHOLE)
    assert before.startswith("whole:") and content_digest(file, WHOLE) == before
    flipped(file, place)
    assert content_digest(file, WHOLE) != before


@pytest.mark.parametrize(
    ("place", "is_seen"), [(0, True), (524_288, True), (1_048_575, True), (200_000, False)]
)
def test_parts_are_the_beginning_the_middle_and_the_end(file, place, is_seen):
    before = content_digest(file, PARTS)
    flipped(file, place)
    assert (content_digest(file, PARTS) != before) is is_seen


def test_a_file_shorter_than_a_part_is_read(tmp_path):
    (tmp_path / "short").write_bytes(b"abc")
    assert content_digest(tmp_path / "short", PARTS) != content_digest(tmp_path / "short", WHOLE)


def scanned(root, cache_dir):
    """The manifest of a folder, its contents read."""
    manifest = scan(root, cache_dir=cache_dir)
    contents = Contents((manifest,), cache_dir)
    contents.read()
    return contents.fill(manifest)


def held_by(manifest):
    return [(entry.path, entry.audio.num_frames, entry.content) for entry in manifest.entries]


def test_a_folder_that_grows_large_is_looked_at_anew(good_root, tmp_path, monkeypatch):
    small = scanned(good_root, tmp_path)
    assert {entry.content.partition(":")[0] for entry in small.entries} == {WHOLE}
    monkeypatch.setattr(content, "_WHOLE_FOLDER_BYTES", 0)
    monkeypatch.setattr(content, "_WHOLE_FILE_BYTES", 0)
    large = scanned(good_root, tmp_path)
    assert {entry.content.partition(":")[0] for entry in large.entries} == {PARTS}
    assert large.digest == small.digest and held_by(large) != held_by(small)
    assert scanned(good_root, tmp_path) == large


def test_the_same_files_elsewhere_have_the_same_digest(good_root, tmp_path):
    shutil.copytree(good_root, tmp_path / "copy")
    first, second = (scanned(root, tmp_path / "cache") for root in (good_root, tmp_path / "copy"))
    assert held_by(first) == held_by(second)
    victim = tmp_path / "copy" / first.entries[0].path
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert held_by(scanned(tmp_path / "copy", tmp_path / "cache")) != held_by(first)

"""The second pass: it reads what the scan has not, remembers it, and changes nothing that is trained on."""

import os
from types import SimpleNamespace

import pytest

from pipeline.data import contents as contents_module
from pipeline.data.content import WHOLE, content_digest, is_pending
from pipeline.data.contents import Contents
from pipeline.data.corpus import prepare_corpus
from pipeline.data.manifest import scan


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names = []

    def count(path, way):
        names.append(path.name)
        return content_digest(path, way)

    monkeypatch.setattr(contents_module, "content_digest", count)
    return names


@pytest.fixture
def folder(good_root, tmp_path):
    root = tmp_path / "audio"
    root.mkdir()
    for name in ("flac16.flac", "cbr.mp3", "vorbis.ogg"):
        (root / name).write_bytes((good_root / name).read_bytes())
    return SimpleNamespace(
        root=root, cache=tmp_path / "cache", scan=lambda: scan(root, cache_dir=tmp_path / "cache")
    )


def test_a_scan_reads_no_content(folder, reads):
    manifest = folder.scan()
    assert reads == [] and all(is_pending(entry.content) for entry in manifest.entries)


@pytest.mark.parametrize("read", [Contents.read, Contents.read_beside])
def test_what_was_read_is_remembered(folder, reads, read):
    contents = Contents((folder.scan(),), folder.cache)
    assert len(contents.missing) == 3
    read(contents)
    assert not contents.missing and sorted(reads) == ["cbr.mp3", "flac16.flac", "vorbis.ogg"]
    filled = contents.fill(folder.scan())
    for entry in filled.entries:
        assert entry.content == content_digest(folder.root / entry.path, WHOLE)
    reads.clear()
    again = Contents((folder.scan(),), folder.cache)
    assert not again.missing and again.fill(folder.scan()) == filled
    assert reads == [] and filled.digest == folder.scan().digest


def test_a_changed_file_is_read_again_and_a_damaged_memory_is_passed_over(folder, reads):
    Contents((folder.scan(),), folder.cache).read()
    (memory,) = folder.cache.glob("contents-*.jsonl")
    damaged = b'["cut sho\n[1]\n{}\n["a", 1, 1, "whole", 7]\n[[], 1, 1, "whole", "whole:7"]\n'
    memory.write_bytes(memory.read_bytes() + damaged)
    reads.clear()
    os.utime(folder.root / "cbr.mp3", ns=(1, 1))
    contents = Contents((folder.scan(),), folder.cache)
    contents.read()
    assert reads == ["cbr.mp3"] and not contents.missing


def test_a_file_that_changes_after_the_scan_stays_pending(folder):
    manifest = folder.scan()
    os.utime(folder.root / "cbr.mp3", ns=(1, 1))
    (folder.root / "vorbis.ogg").unlink()
    contents = Contents((manifest,), folder.cache)
    contents.read()
    assert [os.path.basename(file.place) for file in contents.missing] == ["cbr.mp3", "vorbis.ogg"]
    assert [is_pending(entry.content) for entry in contents.fill(manifest).entries] == [True, False, True]


def test_what_cannot_be_remembered_is_known_all_the_same(folder):
    manifest = folder.scan()
    folder.cache.joinpath("file").touch()
    contents = Contents((manifest,), folder.cache / "file" / "cache")
    contents.read()
    assert not contents.missing


def test_the_files_of_a_mix_are_found(folder, make_settings, tmp_path):
    part = SimpleNamespace(root=str(folder.root), weight=1.0, selection=None)
    settings = make_settings(source="mix", mix={"one": part})
    corpus = prepare_corpus(settings, cache_dir=tmp_path / "cache", report=lambda line: None)
    contents = Contents((corpus.train, corpus.evaluation), folder.cache)
    contents.read()
    assert not contents.missing
    for entry in contents.fill(corpus.train).entries:
        assert entry.content == content_digest(folder.root / entry.path.removeprefix("one/"), WHOLE)

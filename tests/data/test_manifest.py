import os
import shutil
from multiprocessing import get_context
from pathlib import Path

import pytest
import soundfile

from pipeline.data import manifest as manifest_module
from pipeline.data.manifest import load, scan
from pipeline.errors import DataError


@pytest.fixture
def probed(monkeypatch):
    """Names of the files that are looked at."""
    opened = []
    first_look = manifest_module.first_look

    def count(path):
        opened.append(path.name)
        return first_look(path)

    monkeypatch.setattr(manifest_module, "first_look", count)
    return opened


@pytest.fixture
def small_root(tmp_path, make_signal):
    root = tmp_path / "audio"
    root.mkdir()
    for number in range(3):
        soundfile.write(root / f"{number}.wav", make_signal(8000, 1, 1.0), 8000)
    (root / "bad.wav").write_text("text")
    return root


def test_good_and_bad_files_are_told_apart(mixed, good_names, tmp_path):
    manifest = scan(mixed.root, cache_dir=tmp_path)
    assert [entry.path for entry in manifest.entries] == good_names
    assert len(manifest.bad_files) == len(mixed.reasons)
    assert manifest.num_files == len(good_names) + len(mixed.reasons)
    for path, reason in manifest.bad_files:
        assert mixed.reasons[os.path.relpath(path, mixed.root)] in reason
    assert manifest.hours * 3600 == pytest.approx(36.0, abs=0.2)


def test_known_files_are_not_opened_again(mixed, tmp_path, probed):
    first = scan(mixed.root, cache_dir=tmp_path)
    assert len(probed) == first.num_files
    probed.clear()
    again = scan(mixed.root, cache_dir=tmp_path)
    assert probed == []
    assert again == first == load(mixed.root, cache_dir=tmp_path)
    assert again.digest == first.digest


def test_changed_new_and_removed_files_are_noticed(small_root, tmp_path, probed, make_signal):
    before = scan(small_root, cache_dir=tmp_path)
    probed.clear()
    soundfile.write(small_root / "1.wav", make_signal(8000, 1, 2.0), 8000)
    soundfile.write(small_root / "bad.wav", make_signal(8000, 1, 1.0), 8000)
    (small_root / "2.wav").unlink()
    shutil.copy(small_root / "0.wav", small_root / "new.wav")
    after = scan(small_root, cache_dir=tmp_path)
    assert sorted(probed) == ["1.wav", "bad.wav", "new.wav"]
    assert [entry.path for entry in after.entries] == ["0.wav", "1.wav", "bad.wav", "new.wav"]
    assert not after.bad_files
    assert after.entries[1].duration_s == 2.0
    assert after.digest != before.digest


def test_same_size_with_another_time_is_looked_at_again(small_root, tmp_path, probed):
    scan(small_root, cache_dir=tmp_path)
    probed.clear()
    os.utime(small_root / "0.wav", ns=(1, 1))
    scan(small_root, cache_dir=tmp_path)
    assert probed == ["0.wav"]


def test_what_could_not_be_opened_is_tried_again(small_root, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(manifest_module, "first_look", refuse)
    closed = scan(small_root, cache_dir=tmp_path)
    assert not closed.entries
    assert {bad.reason for bad in closed.bad_files} == {"cannot be opened (Permission denied)"}
    monkeypatch.undo()
    assert len(scan(small_root, cache_dir=tmp_path).entries) == 3


def test_nothing_is_written_beside_the_audio(small_root, tmp_path):
    before = sorted(small_root.rglob("*"))
    small_root.chmod(0o555)
    scan(small_root, cache_dir=tmp_path / "cache")
    small_root.chmod(0o755)
    assert sorted(small_root.rglob("*")) == before


def test_spoilt_cache_is_made_anew(small_root, tmp_path):
    first = scan(small_root, cache_dir=tmp_path)
    (cache_file,) = tmp_path.glob("manifest-*.json")
    for content in (b"", b"{", b"[]", b'{"files": [[1]]}'):
        cache_file.write_bytes(content)
        assert load(small_root, cache_dir=tmp_path) is None
        assert scan(small_root, cache_dir=tmp_path) == first


def test_cache_that_cannot_be_written_is_refused(small_root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data\.cache_dir=.*EULER_CACHE"):
        scan(small_root, cache_dir=tmp_path / "file" / "cache")


def test_extensions_choose_and_need_no_dot(mixed, tmp_path):
    paths = {entry.path for entry in scan(mixed.root, ["FLAC", ".opus"], cache_dir=tmp_path).entries}
    assert paths == {"flac16.flac", "Übung 音.flac", "deep/opus.opus"}


def test_name_that_is_no_utf8_goes_through_the_cache(tmp_path, make_signal):
    root = tmp_path / "audio"
    root.mkdir()
    name = os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "x.wav", make_signal(8000, 1, 1.0), 8000)
    (tmp_path / "x.wav").rename(root / name)
    assert scan(root, cache_dir=tmp_path) == scan(root, cache_dir=tmp_path)
    assert [entry.path for entry in scan(root, cache_dir=tmp_path).entries] == [name]
    assert scan(root, cache_dir=tmp_path).digest


def _scan_counting(root: Path, cache_dir: Path) -> tuple[int, str]:
    opened = []
    first_look = manifest_module.first_look
    manifest_module.first_look = lambda path: (opened.append(path), first_look(path))[1]
    found = scan(root, cache_dir=cache_dir)
    return len(opened), found.digest


def test_of_several_processes_one_opens_the_files(good_root, good_names, tmp_path):
    with get_context("fork").Pool(3) as pool:
        counts, digests = zip(*pool.starmap(_scan_counting, [(good_root, tmp_path)] * 3), strict=True)
    assert sum(counts) == len(good_names)
    assert len(set(digests)) == 1

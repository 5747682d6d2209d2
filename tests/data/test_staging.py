"""Copies on a scratch disk: made once, used again, and never relied upon."""

import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from pipeline.data.datamodule import AudioDataModule
from pipeline.data.pack.__main__ import main


@pytest.fixture(params=["files", "pack"])
def source(request, tmp_path):
    """A folder of audio, or a pack of it."""
    root = tmp_path / "audio"
    (root / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(
            root / "deep" / f"{number}.wav", 0.1 * rng.standard_normal(40000), 16000, subtype="PCM_16"
        )
    if request.param == "files":
        return root
    out = tmp_path / "pack"
    assert main([str(root), str(out), "--jobs", "1", "--cache-dir", str(tmp_path / "cache")]) == 0
    return out


@pytest.fixture
def prepared(make_settings, tmp_path):
    """A data module that has prepared itself as Lightning has it do, and the lines that it said."""

    def prepared(root, scratch_dir):
        lines = []
        settings = make_settings(
            root=str(root), scratch_dir=None if scratch_dir is None else str(scratch_dir)
        )
        module = AudioDataModule(settings, 5, tmp_path / "cache", lines.append)
        module.prepare_data()
        module.setup()
        return module, lines

    return prepared


def batches(module):
    loaders = (module.train_dataloader(), module.val_dataloader())
    return [batch for loader in loaders for batch in loader]


def assert_equal(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.waveform, other.waveform)
        assert one[2:] == other[2:]


def files(folder):
    return {
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "staged-"))
    }


def test_copies_give_the_same_and_are_used_again(source, prepared, tmp_path):
    scratch = tmp_path / "scratch"
    wanted = batches(prepared(source, None)[0])
    module, lines = prepared(source, scratch)
    assert any(f"of audio to data.scratch_dir={scratch}" in line for line in lines)
    assert_equal(batches(module), wanted)
    times = {path: path.stat().st_ino for path in files(scratch)}
    again, lines = prepared(source, scratch)
    assert any("are in data.scratch_dir" in line and "already" in line for line in lines)
    assert {path: path.stat().st_ino for path in files(scratch)} == times
    away = source.rename(tmp_path / "away")
    assert_equal(batches(again), wanted)
    away.rename(source)


def test_what_has_changed_is_copied_anew(source, prepared, tmp_path):
    scratch = tmp_path / "scratch"
    prepared(source, scratch)
    victim = max(files(scratch), key=lambda path: path.stat().st_size)
    victim.unlink()
    _, lines = prepared(source, scratch)
    assert any("copied" in line for line in lines) and victim.exists()


def test_copies_that_vanish_are_not_missed(source, prepared, tmp_path):
    wanted = batches(prepared(source, None)[0])
    module, _ = prepared(source, tmp_path / "scratch")
    shutil.rmtree(tmp_path / "scratch")
    assert_equal(batches(module), wanted)
    assert not module.bad_files


def assert_goes_on_from_the_originals(prepared, source, scratch, reason):
    wanted = batches(prepared(source, None)[0])
    module, lines = prepared(source, scratch)
    (line,) = [line for line in lines if "warning" in line]
    assert line.startswith(f"warning: data.scratch_dir={scratch} cannot take the audio ({reason}")
    assert "training reads the audio from where it is" in line
    assert_equal(batches(module), wanted)


def test_a_scratch_disk_that_is_too_small_is_said_before(source, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    )
    assert_goes_on_from_the_originals(
        prepared, source, tmp_path / "scratch", "0.00 GiB are needed, 0.00 GiB are free"
    )
    assert not files(tmp_path / "scratch")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_scratch_disk_that_fills_up_meanwhile(source, prepared, tmp_path, monkeypatch):
    scratch = tmp_path / "small"
    scratch.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(scratch)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9))
        assert_goes_on_from_the_originals(prepared, source, scratch, "No space left on device")
        assert not files(scratch)
    finally:
        subprocess.run(["umount", str(scratch)], check=True)


def test_a_scratch_folder_that_cannot_be_made(source, prepared, tmp_path):
    (tmp_path / "file").touch()
    assert_goes_on_from_the_originals(prepared, source, tmp_path / "file" / "x", "Not a directory")


def test_a_folder_whose_name_is_no_utf8_is_copied(source, prepared, tmp_path):
    root = source.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    copied, lines = prepared(root, tmp_path / "scratch")
    assert any("copied" in line for line in lines)
    assert_equal(batches(copied), batches(prepared(root, None)[0]))

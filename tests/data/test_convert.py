"""m4a and aac become FLAC once, and what goes wrong is said."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from pipeline.data.convert import main
from pipeline.data.manifest import scan

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")


@pytest.fixture
def folder(tmp_path):
    """Two encoded files, one that is none, and one that needs no conversion."""
    root = tmp_path / "audio"
    (root / "deep").mkdir(parents=True)
    t = np.arange(44100) / 44100
    soundfile.write(root / "plain.wav", 0.3 * np.sin(2 * np.pi * 440 * t), 44100, subtype="PCM_16")
    for name in ("deep/song.m4a", "other.AAC"):
        command = ["ffmpeg", "-v", "error", "-i", str(root / "plain.wav"), "-c:a", "aac", "-b:a", "128k"]
        kind = "adts" if name.endswith("AAC") else "ipod"
        subprocess.run([*command, "-f", kind, str(root / name)], check=True)
    (root / "broken.m4a").write_bytes(b"no audio" * 100)
    return root


@needs_ffmpeg
def test_files_are_converted_once(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(folder), str(out)]) == 1
    said = capsys.readouterr().out
    assert f"not converted: {folder / 'broken.m4a'}: " in said and "2 files converted, 1 not" in said
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [  # no leftovers
        "deep/song.m4a.flac",
        "other.AAC.flac",
    ]
    (folder / "broken.m4a").unlink()
    assert main([str(folder), str(out)]) == 0
    assert "0 files converted, 0 not" in capsys.readouterr().out
    found = soundfile.read(out / "deep" / "song.m4a.flac")[0]
    wanted = soundfile.read(folder / "plain.wav")[0]
    assert abs(len(found) - len(wanted)) < 2200
    assert np.abs(np.fft.rfft(found[:44100])).argmax() == 440


@needs_ffmpeg
def test_beside_their_sources_they_are_trained_on(folder, tmp_path):
    (folder / "broken.m4a").unlink()
    assert main([str(folder)]) == 0
    manifest = scan(folder, cache_dir=tmp_path / "cache")
    assert [entry.path for entry in manifest.entries] == ["deep/song.m4a.flac", "other.AAC.flac", "plain.wav"]


def test_without_ffmpeg_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "song.m4a").write_bytes(b"x")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"DataError: 1 files below {tmp_path} need ffmpeg, which is not on PATH (first: ")
    assert "install ffmpeg" in said
    assert main([str(tmp_path / "gone")]) == 1
    assert "is not a folder" in capsys.readouterr().err

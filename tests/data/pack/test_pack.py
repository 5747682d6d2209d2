"""Packed audio is the original audio: the same crops, in the same order, to the bit where it has 16 bits."""

import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.data.contents import Contents
from pipeline.data.corpus import prepare_corpus
from pipeline.data.dataset import EvalSegments, SegmentFormat, TrainSegments
from pipeline.data.manifest import scan
from pipeline.data.pack.__main__ import main
from pipeline.data.pack.layout import BLOCK_BYTES
from pipeline.data.pack.storage import open_pack
from pipeline.data.pack.write import quantise
from pipeline.data.sampler import SampleKey
from pipeline.errors import DataError

FORM = SegmentFormat(num_samples=4000, sample_rate_hz=16000, channels=2)
HALF_STEP = 0.5 / 32768
EXACT = ("PCM_16", "PCM_U8", "PCM_S8")


def pack(source, out, *more):
    return main([str(source), str(out), "--jobs", "1", "--cache-dir", str(out.parent / "cache"), *more])


@pytest.fixture(scope="module")
def packed(good_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "pack"
    assert pack(good_root, folder, "--shard-mib", "1") == 0
    return folder


@pytest.fixture
def noises(tmp_path):
    """Five 16-bit files of half a MiB, two to a shard of 1 MiB."""
    root = tmp_path / "noises"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        samples = rng.integers(-32768, 32768, 1 << 18).astype(np.int16)
        soundfile.write(root / f"{number}.wav", samples, 16000, subtype="PCM_16")
    return root


def scanned(root, cache_dir):
    """The manifest of a folder, its contents read, as they are for a pack."""
    manifest = scan(root, cache_dir=cache_dir)
    found = Contents((manifest,), cache_dir)
    found.read()
    return found.fill(manifest)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_track_is_there_with_the_same_samples(good_root, good_names, packed, tmp_path):
    original, manifest = scanned(good_root, tmp_path), open_pack(packed)
    assert manifest.entries == original.entries and manifest.digest == original.digest
    assert [entry.path for entry in manifest.entries] == good_names
    for entry in original.entries:
        count = entry.audio.num_frames
        wanted = original.storage.read(entry.path, entry.audio, 0, count)
        found = manifest.storage.read(entry.path, entry.audio, 0, count)
        step = 0.0 if entry.audio.codec in EXACT else HALF_STEP + 1e-6  # what decoders differ by
        assert np.abs(found - wanted).max() <= step, entry
        part = manifest.storage.read(entry.path, entry.audio, 777, 1234)
        np.testing.assert_array_equal(part, found[:, 777 : 777 + 1234])


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_crops_are_those_of_the_originals(noises, tmp_path, rate_hz):
    assert pack(noises, tmp_path / "pack", "--shard-mib", "1") == 0
    form = FORM._replace(sample_rate_hz=rate_hz)
    one, two = scan(noises, cache_dir=tmp_path / "cache"), open_pack(tmp_path / "pack")
    pairs = [
        (TrainSegments(one, form, 3), TrainSegments(two, form, 3), SampleKey(item, 2, item))
        for item in range(30)
    ]
    pairs += [(EvalSegments(one, form, 9), EvalSegments(two, form, 9), number) for number in range(9)]
    for originals, shards, key in pairs:
        wanted, found = originals[key], shards[key]
        np.testing.assert_array_equal(found.waveform, wanted.waveform)
        assert found.source == wanted.source and "shard-" in found.path


def test_folders_for_training_and_evaluation_are_kept(noises, tmp_path, make_settings):
    root = tmp_path / "divided"
    for number, split in enumerate(["train", "train", "valid", "train", "valid"]):
        (root / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(noises / f"{number}.wav", root / split)
    (root / "valid" / "bad.wav").touch()
    assert pack(root, tmp_path / "pack") == 0
    cache = {"cache_dir": tmp_path / "cache", "report": lambda line: None}
    one = prepare_corpus(make_settings(root=str(root)), **cache)
    two = prepare_corpus(make_settings(source="packed", root=str(tmp_path / "pack")), **cache)
    assert (one.train.digest, one.evaluation.digest) == (two.train.digest, two.evaluation.digest)
    assert len(two.train.entries) == 3 and len(two.evaluation.entries) == 2
    assert one.num_files == two.num_files and len(two.bad_files) == 1
    np.testing.assert_array_equal(
        EvalSegments(one.evaluation, FORM)[7].waveform, EvalSegments(two.evaluation, FORM)[7].waveform
    )
    with pytest.raises(
        DataError, match=rf"data\.root={root} holds no pack; .*python -m pipeline\.data\.pack"
    ):
        prepare_corpus(make_settings(source="packed", root=str(root)), **cache)


def test_a_flipped_byte_is_named_with_shard_and_track(noises, tmp_path, capsys):
    assert pack(noises, tmp_path / "pack", "--shard-mib", "1") == 0
    victim = tmp_path / "pack" / "shard-00001.pcm"
    content = bytearray(victim.read_bytes())
    content[5 * BLOCK_BYTES + 17] ^= 1
    victim.write_bytes(content)
    capsys.readouterr()
    assert main([str(tmp_path / "pack"), "--verify"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"damaged: {victim} (track 2.wav): damaged between bytes {5 * BLOCK_BYTES} and")
    assert said[1:] == [f"{tmp_path / 'pack'}: 1 tracks are damaged"]

    segments = TrainSegments(open_pack(tmp_path / "pack"), FORM, seed=0)
    found = [segments[SampleKey(item, epoch, 0)] for epoch in range(8) for item in range(len(segments))]
    bad = {file for segment in found for file in segment.bad}
    assert {file.path for file in bad} == {f"{victim} (track 2.wav)"}
    intact = scan(noises, cache_dir=tmp_path / "cache")
    for segment in found:
        name, start = segment.source.split("@")
        entry = next(entry for entry in intact.entries if entry.path == name)
        np.testing.assert_array_equal(
            segment.waveform[0], intact.storage.read(name, entry.audio, int(start), 4000)[0]
        )


@pytest.mark.parametrize("damage", ["gone", "cut", "no checksums"])
def test_a_damaged_shard_is_named(noises, tmp_path, damage):
    assert pack(noises, tmp_path / "pack") == 0
    shard = tmp_path / "pack" / "shard-00000.pcm"
    if damage == "cut":
        os.truncate(shard, 1 << 20)
    else:
        (shard if damage == "gone" else shard.with_suffix(".crc")).unlink()
    with pytest.raises(DataError, match=r"20 audio files in a row.*shard-00000"):
        TrainSegments(open_pack(tmp_path / "pack"), FORM, seed=0)[SampleKey(0, 0, 0)]


def test_a_damaged_index_is_named(packed, tmp_path):
    broken = tmp_path / "pack"
    broken.mkdir()
    for content in (b"", b"{}", b'{"version": 99}', (packed / "pack.json").read_bytes()[:-40]):
        (broken / "pack.json").write_bytes(content)
        with pytest.raises(
            DataError, match=r"pack\.json: cannot be read as the index of packed audio .*; pack again"
        ):
            open_pack(broken)


def test_an_interrupted_pack_goes_on(noises, tmp_path, capsys):
    assert pack(noises, tmp_path / "whole", "--shard-mib", "1") == 0
    torn = shutil.copytree(tmp_path / "whole", tmp_path / "torn")
    (torn / "pack.json").unlink()
    (torn / "shard-00001.json").unlink()
    os.truncate(torn / "shard-00002.pcm", 1000)
    kept = (torn / "shard-00000.pcm").stat().st_mtime_ns
    capsys.readouterr()
    assert pack(noises, torn, "--shard-mib", "1") == 0
    said = capsys.readouterr().out
    assert "1 of 3 shards are there already" in said and "shard 1:" in said and "shard 2:" in said
    assert (torn / "shard-00000.pcm").stat().st_mtime_ns == kept
    assert contents(torn) == contents(tmp_path / "whole")


def test_jobs_of_an_array_make_the_same_pack(noises, tmp_path, capsys):
    assert pack(noises, tmp_path / "whole", "--shard-mib", "1", "--jobs", "2") == 0
    capsys.readouterr()
    assert pack(noises, tmp_path / "array", "--shard-mib", "1", "--shard", "1/2") == 0
    assert "1 of 3 shards are packed; pack.json comes with the last one" in capsys.readouterr().out
    assert not (tmp_path / "array" / "pack.json").exists()
    assert pack(noises, tmp_path / "array", "--shard-mib", "1", "--shard", "0/2") == 0
    assert contents(tmp_path / "array") == contents(tmp_path / "whole")


def test_changed_audio_is_packed_again(noises, tmp_path, capsys):
    assert pack(noises, tmp_path / "pack", "--shard-mib", "1") == 0
    soundfile.write(noises / "4.wav", np.zeros(1000, np.int16), 16000, subtype="PCM_16")
    capsys.readouterr()
    assert pack(noises, tmp_path / "pack", "--shard-mib", "1") == 0
    assert "2 of 3 shards are there already" in capsys.readouterr().out
    assert open_pack(tmp_path / "pack").entries == scanned(noises, tmp_path / "cache").entries
    (noises / "4.wav").unlink()
    assert pack(noises, tmp_path / "pack", "--shard-mib", "1") == 0
    assert not (tmp_path / "pack" / "shard-00002.pcm").exists()


def test_what_is_lost_is_said(tmp_path, capsys):
    root = tmp_path / "audio"
    root.mkdir()
    rng = np.random.default_rng(0)
    soundfile.write(root / "loud.wav", np.array([0.5, 1.5, -2.0, 1.0, -1.0]), 16000, subtype="FLOAT")
    soundfile.write(root / "fine.wav", rng.uniform(-1, 1, 1000), 16000, subtype="PCM_24")
    soundfile.write(root / "exact.wav", rng.uniform(-1, 1, 1000), 16000, subtype="PCM_16")
    hole = np.zeros(100000, np.float32)
    hole[20000:30000] = np.nan
    soundfile.write(root / "hole.wav", hole, 16000, subtype="FLOAT")
    assert pack(root, tmp_path / "pack") == 0
    said = capsys.readouterr().out
    assert "1 tracks are kept to the bit; rounded to 16 bits: FLOAT, PCM_24" in said
    assert "clipped: 2 samples beyond full scale in loud.wav" in said
    assert "left out: hole.wav: NaN" in said
    manifest = open_pack(tmp_path / "pack")
    assert [entry.path for entry in manifest.entries] == ["exact.wav", "fine.wav", "loud.wav"]
    assert len(manifest.bad_files) == 1
    assert manifest.bad_files[0].reason.startswith("left out when it was packed: ")
    loud = manifest.storage.read("loud.wav", manifest.entries[2].audio, 0, 5)
    np.testing.assert_array_equal(loud[0] * 32768, [16384, 32767, -32768, 32767, -32768])


def test_quantising_loses_at_most_half_a_step():
    waveform = np.random.default_rng(0).uniform(-1, 1, (2, 10000)).astype(np.float32)
    samples, rounded, clipped = quantise(waveform)
    assert samples.shape == (10000, 2) and rounded > 19000 and clipped == 0
    inside = waveform.T < 1 - HALF_STEP
    assert np.abs(samples / 32768 - waveform.T)[inside].max() <= HALF_STEP
    again, rounded, _ = quantise(samples.T.astype(np.float32) / 32768)
    np.testing.assert_array_equal(again, samples)
    assert rounded == 0


def test_a_disk_that_takes_no_more_is_one_sentence(noises, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = [sys.executable, "-m", "pipeline.data.pack", str(noises), str(tmp_path / "pack"), "--jobs", "2"]
    ended = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache")],
        cwd=Path(__file__).parents[3], preexec_fn=limit, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"DataError: {tmp_path / 'pack'}: shard 0 cannot be written" in ended.stderr
    assert "make room" in ended.stderr
    assert not (tmp_path / "pack" / "pack.json").exists()
    assert pack(noises, tmp_path / "pack") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{root}/none", "{out}"], "is not a folder"),
        (["{root}"], "OUT is missing"),
        (["{root}", "{root}/inside"], "lies inside SOURCE"),
        (["{root}", "{out}", "--shard", "2/2"], "--shard 2/2: valid: I/N"),
        (["{root}", "{out}", "--jobs", "0"], "--jobs and --shard-mib"),
        (["{pack}", "{out}"], "is a pack already"),
        (["{root}", "--verify"], "holds no pack.json"),
    ],
)
def test_refusals(good_root, packed, tmp_path, capsys, arguments, said):
    names = {"root": good_root, "out": tmp_path / "out", "pack": packed}
    given = [argument.format(**names) for argument in arguments]
    assert main([*given, "--cache-dir", str(tmp_path / "cache")]) == 1
    assert said in capsys.readouterr().err


def test_storage_travels_to_another_process(packed):
    manifest = open_pack(packed)
    entry = manifest.entries[0]
    first = manifest.storage.read(entry.path, entry.audio, 0, 100)
    travelled = pickle.loads(pickle.dumps(manifest.storage))
    np.testing.assert_array_equal(travelled.read(entry.path, entry.audio, 0, 100), first)

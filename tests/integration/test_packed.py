"""A run on packed audio is the run on the originals."""

import csv

import numpy as np
import pytest
import soundfile

from pipeline.data.pack.__main__ import main
from tests.integration.runs import TINY


def losses(run):
    with (run.directory / "metrics.csv").open() as stream:
        return [row["train/loss"] for row in csv.DictReader(stream) if row["train/loss"]]


@pytest.mark.long
def test_the_same_loss_sequence_for_20_steps(train, tmp_path):
    root, pack = tmp_path / "audio", tmp_path / "pack"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number, extension in enumerate(["wav", "flac", "flac", "wav"]):
        samples = 0.2 * rng.standard_normal((44100 * 3, 2))
        soundfile.write(root / f"{number}.{extension}", samples, (44100, 48000)[number % 2], subtype="PCM_16")
    assert main([str(root), str(pack), "--jobs", "1", "--cache-dir", str(tmp_path / "scan")]) == 0
    tiny = (*TINY, "trainer.trainer.max_steps=20")
    original = train("data=folder", f"data.root={root}", *tiny, name="original")
    packed = train("data=packed", f"data.root={pack}", *tiny, name="packed")
    assert original.code == 0 and packed.code == 0, packed.output
    assert len(losses(original)) == 20
    assert losses(packed) == losses(original)
    assert packed.weights == original.weights

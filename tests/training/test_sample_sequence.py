"""The fingerprint of the sample sequence."""

import os
from types import SimpleNamespace

import torch

from pipeline.training.callbacks.sample_sequence import SampleSequence


def fingerprint(sources):
    sequence = SampleSequence(SimpleNamespace(total=lambda own: own))
    batch = SimpleNamespace(position=torch.arange(len(sources)), sources=sources)
    sequence.on_train_batch_end(None, None, None, batch, 0)
    sequence.gather()
    return sequence.fingerprint


def test_names_that_are_no_utf8_have_a_fingerprint():
    names = [os.fsdecode(b"caf\xe9.wav@0"), os.fsdecode(b"caf\xe8.wav@0"), "café.wav@0"]
    assert len({fingerprint([name]) for name in names}) == 3


def test_the_order_counts():
    assert fingerprint(["a@0", "b@0"]) != fingerprint(["b@0", "a@0"])

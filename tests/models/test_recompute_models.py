"""Activations computed again give the same bits with every kind of layer, and the start says what pieces change."""

import copy

import pytest
import torch

from pipeline.config.compose import settle
from pipeline.models.build import build_autoencoder, describe
from pipeline.models.pieces import describe_pieces
from pipeline.models.recompute import recompute_layers
from tests.config.compositions import compose

ENCODER = "model.encoder.config"
CASES = {
    "batch_norm": ("model=SEANet_complex_small", f"{ENCODER}.norm=batch_norm"),
    "spectral_norm": ("model=SEANet_real_small", f"{ENCODER}.norm=spectral_norm"),
    "lstm": ("model=SEANet_real_small", f"{ENCODER}.sequence_model=lstm"),
    "transformer": ("model=SEANet_complex_small", f"{ENCODER}.sequence_model=transformer"),
    "causal": ("model=SEANet_complex_small", f"{ENCODER}.causal=true"),
    "patches": ("model=PatchTransformer_real",),
    "axial": ("model=PatchTransformer_complex_axial",),
}
FAST = ("spectral_norm", "patches")


def build(case):
    config = settle(compose(*CASES[case]))
    torch.manual_seed(0)
    return build_autoencoder(describe(config.model.model_dump(), config.data.stft.model_dump(), 44100, 1))


def trained(model, waveform):
    """Gradients, and what a step leaves in the layers."""
    output = model(waveform, torch.zeros)
    (output.estimate_spectrogram.square().mean() + output.loss_info["kl"]).backward()
    return [weight.grad for weight in model.parameters()] + list(model.state_dict().values())


@pytest.mark.parametrize(
    "case", [case if case in FAST else pytest.param(case, marks=pytest.mark.long) for case in CASES]
)
def test_the_same_bits(case):
    plain = build(case)
    again = copy.deepcopy(plain)
    recompute_layers(again.encoder)
    recompute_layers(again.decoder)
    waveform = 0.1 * torch.randn(1, 1, 512 * 12)
    pairs = zip(trained(plain, waveform), trained(again, waveform), strict=True)
    assert all(torch.equal(expected, found) for expected, found in pairs)


@pytest.mark.parametrize(
    ("case", "chunk", "said"),
    [
        ("spectral_norm", 8, "training differs"),
        ("lstm", 8, "looks at all frames"),
        ("causal", 8, "those of the whole, to rounding"),
        ("causal", 17, "no effect on segments of 17 frames"),
    ],
)
def test_the_start_says_what_pieces_change(case, chunk, said):
    model = build(case)
    (note,) = describe_pieces(chunk, 17, (model.encoder, model.decoder), model.time_stride)
    assert note.startswith(f"model.autoencoder.chunk_frames={chunk}") and said in note

"""What a SEANet may have besides: causality, groups, two last convolutions, sequence models, norms, activations."""

from itertools import product

import pytest
import torch

from pipeline.dsp.complex_channels import split
from pipeline.errors import ConfigError
from pipeline.layers.activation_names import activation_choices
from pipeline.layers.receptive_field import receptive_field
from pipeline.models.seanet import SEANetDecoder, SEANetEncoder

KINDS = [False, True]
NORMS = ["none", "weight_norm", "spectral_norm", "group_norm", "layer_norm", "batch_norm"]
ACTIVATIONS = {
    False: ["ELU", "GLU", "Snake"],
    True: ["ELU", "AbsSiLU", "CGLU", "CReLU", "CSnake", "PhaseGELU", "freqModReLU", "modReLU"],
}
MATRIX = [
    (norm, activation, kind, causal)
    for norm, kind, causal in product(NORMS, KINDS, KINDS)
    for activation in ACTIVATIONS[kind]
]


def build(small, complex_valued, **changes):
    """A small encoder and decoder."""
    torch.manual_seed(0)
    config = small | {"complex_valued": complex_valued} | changes
    encoder = SEANetEncoder(**config, dimension=8, in_channels=1, num_bins=33)
    return encoder, SEANetDecoder(**config, dimension=8, out_channels=1, num_bins=33)


def spectrogram(seed=0, frames=32):
    return torch.randn(2, 2, 33, frames, generator=torch.Generator().manual_seed(seed))


def test_the_matrix_holds_every_activation_of_our_own():
    assert set(ACTIVATIONS[True]) - {"ELU"} <= set(activation_choices(True))
    assert set(ACTIVATIONS[False]) - {"ELU"} <= set(activation_choices(False))


def trained(small, norm, activation, complex_valued, causal, interrupted=None):
    """Losses and state after 4 steps; `interrupted`: networks and optimiser are stored and rebuilt after so many."""
    changes = {"norm": norm, "activation": activation, "causal": causal, "n_residual_layers": 1}

    def begin():
        networks = torch.nn.ModuleList(build(small, complex_valued, **changes))
        return networks, torch.optim.AdamW(networks.parameters(), lr=1e-3)

    networks, optimizer = begin()
    losses = []
    for step in range(4):
        if step == interrupted:
            stored = networks.state_dict(), optimizer.state_dict()
            networks, optimizer = begin()
            networks.load_state_dict(stored[0], strict=True)
            optimizer.load_state_dict(stored[1])
        stacked = spectrogram(step, frames=8)
        loss = (networks[1](networks[0](stacked)) - stacked).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, networks.eval()


@pytest.mark.long
@pytest.mark.parametrize(("norm", "activation", "complex_valued", "causal"), MATRIX)
def test_every_combination_trains_repeats_and_resumes(small, norm, activation, complex_valued, causal):
    combination = (small, norm, activation, complex_valued, causal)
    losses, networks = trained(*combination)
    assert all(loss == loss and loss < float("inf") for loss in losses)
    for again, twin in (trained(*combination), trained(*combination, interrupted=2)):
        assert again == losses
        assert all(
            torch.equal(value, twin.state_dict()[name]) for name, value in networks.state_dict().items()
        )


@pytest.mark.parametrize("norm", [pytest.param("spectral_norm", marks=pytest.mark.long), "batch_norm"])
def test_a_norm_with_state_resumes(small, norm):
    losses, networks = trained(small, norm, "modReLU", True, True)
    again, twin = trained(small, norm, "modReLU", True, True, interrupted=2)
    assert again == losses
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in networks.state_dict().items())


OPTIONS = {
    "plain": {},
    "two last": {"double_final_conv": True},
    "lstm": {"sequence_model": "lstm", "sequence_layers": 1},
    "transformer": {"sequence_model": "transformer", "sequence_heads": 2},
    "grouped": {"residual_groups": 2, "n_residual_layers": 2},
    "narrow": {"true_skip": True, "compress": 4, "n_residual_layers": 2},
    "layer norm": {"norm": "layer_norm"},
    "group norm": {"norm": "group_norm"},
    "batch norm": {"norm": "batch_norm"},
    "spectral norm": {"norm": "spectral_norm"},
}


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_future_frame_changes_no_past_output(small, name, complex_valued):
    encoder, decoder = (
        network.double().eval() for network in build(small, complex_valued, causal=True, **OPTIONS[name])
    )
    stacked = spectrogram().double()
    first = 16
    assert first % encoder.time_stride == 0
    latents, changed = encoder(stacked), stacked.clone()
    changed[..., first:] = spectrogram(1).double()[..., first:]
    past = first // encoder.time_stride
    torch.testing.assert_close(encoder(changed)[..., :past], latents[..., :past], rtol=0, atol=1e-12)
    assert not torch.allclose(encoder(changed)[..., past:], latents[..., past:])
    output, other = decoder(latents), decoder(encoder(changed))
    torch.testing.assert_close(other[..., :first], output[..., :first], rtol=0, atol=1e-12)
    # A stream that has come so far gives what the whole gives.
    torch.testing.assert_close(
        decoder(encoder(stacked[..., :first])), output[..., :first], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_parameter_gets_a_gradient(small, name, complex_valued):
    encoder, decoder = build(small, complex_valued, **OPTIONS[name])
    latents = encoder(spectrogram())
    assert latents.shape == (2, encoder.latent_channels, 32 // encoder.time_stride)
    output = decoder(latents)
    assert output.shape == (2, 2, 33, 32)
    output.square().mean().backward()
    for part, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), part
        assert parameter.grad.abs().sum() > 0, part


@pytest.mark.parametrize(
    ("name", "expected"), [("plain", False), ("lstm", True), ("transformer", True), ("layer norm", False)]
)
def test_what_sees_all_frames_says_so(small, name, expected):
    for network in build(small, True, causal=True, **OPTIONS[name]):
        assert network.has_global_statistics == expected
    assert build(small, True, norm="group_norm")[0].has_global_statistics
    assert not build(small, True, norm="group_norm", causal=True)[0].has_global_statistics


def test_defaults_add_nothing_to_older_checkpoints(small):
    encoder, decoder = build(small, True)
    names = {name.split(".")[0] for network in (encoder, decoder) for name in network.state_dict()}
    assert names == {"levels", "projection"}


@pytest.mark.parametrize("causal", KINDS)
def test_two_last_convolutions_reach_further(small, causal):
    one, _ = build(small, False, causal=causal)
    two, _ = build(small, False, causal=causal, double_final_conv=True)
    # the second one spans 3 latent frames
    assert receptive_field(two) == receptive_field(one) + 2 * one.time_stride


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_complex_sequence_model_keeps_the_parts_apart_by_rule(small, name):
    """i z has the latents' parts swapped; the attention's weights are real, so that its blocks commute with i."""
    changes = {"activation": "modReLU", "sequence_heads": 2, "sequence_model": name}
    sequence = build(small, True, **changes)[0].sequence.double()
    for part, parameter in sequence.named_parameters():
        if "bias" in part:
            torch.nn.init.zeros_(parameter)
    latents = torch.randn(2, 16, 6, dtype=torch.float64)
    real, imag = split(latents)
    turned, output = sequence(torch.cat((-imag, real), 1)), sequence(latents)
    expected = torch.cat((-output[:, 8:], output[:, :8]), 1)
    assert torch.allclose(turned, expected, atol=1e-6) == (name == "transformer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_groups": 3}, "^residual_groups=3 must divide"),
        ({"residual_groups": 2, "n_residual_layers": 0}, "^residual_groups=2 needs n_residual_layers"),
        ({"sequence_model": "transformer", "sequence_heads": 3}, "^sequence_heads=3 must divide dimension=8"),
        ({"sequence_model": "transformer", "sequence_heads": 8}, "^sequence_heads=8 leaves 1 of .* even"),
    ],
)
def test_refusals(small, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(small, False, **changes)

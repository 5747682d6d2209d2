"""Pieces, activations computed again and masked latents: what they change, and what not."""

import copy

import pytest
import torch
from torch import nn

from pipeline.models.pieces import PiecePlan, decode_in_pieces, encode_in_pieces
from pipeline.models.recompute import recompute_layers, recomputed
from pipeline.models.training_options import TrainingOptions

KINDS = [False, True]
FRAMES = 60


def loss_of(model, waveform):
    output = model(waveform, torch.zeros, torch.zeros)
    return output.estimate_spectrogram.square().mean() + output.loss_info["kl"] + output.waveform.abs().mean()


def gradients(model, waveform):
    model.zero_grad()
    loss = loss_of(model, waveform)
    loss.backward()
    return [loss.detach(), *(weight.grad.clone() for weight in model.parameters())]


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
def test_pieces_equal_the_whole(build_small, complex_valued, pad_mode):
    """In float64 to its rounding: forward, every gradient, and validation."""
    torch.manual_seed(0)
    model = build_small(complex_valued, pad_mode=pad_mode).double()
    waveform = torch.randn(1, 2, 16 * (FRAMES - 1) - 5, dtype=torch.float64)
    expected = gradients(model, waveform)
    evaluated = model.eval()(waveform).waveform
    model.options = TrainingOptions(chunk_frames=13)
    for found, wanted in zip(gradients(model.train(), waveform), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(model.eval()(waveform).waveform, evaluated, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_margins_are_wide_enough_for_every_stride_and_dilation(full_size, complex_valued):
    from pipeline.models.seanet import SEANetDecoder, SEANetEncoder

    torch.manual_seed(0)
    changes = {"n_filters": 2, "complex_valued": complex_valued, "dimension": 2, "latent_fbins": 1}
    config = full_size | changes | {"n_residual_layers": 2, "ratios": [[2, 4], [2, 3], [4, 2]]}
    encoder = SEANetEncoder(**config, in_channels=1, num_bins=17).double()
    decoder = SEANetDecoder(**config, out_channels=1, num_bins=17).double()
    stride, length = encoder.time_stride, 90
    stacked = torch.randn(1, 2, 17, length * stride, dtype=torch.float64)
    with torch.no_grad():
        plan = PiecePlan.of(7 * stride, encoder.receptive_field_frames, stride)
        assert plan.before + plan.kept + plan.after < length
        latents = encoder(stacked)
        torch.testing.assert_close(encode_in_pieces(encoder, stacked, plan, stride), latents)
        plan = PiecePlan.of(7 * stride, decoder.receptive_field_frames, stride)
        torch.testing.assert_close(decode_in_pieces(decoder, latents, plan, stride), decoder(latents))


def test_pieces_keep_less_than_the_whole(build_small):
    """The largest tensor that the networks' layers make in training is that of a piece."""
    model = build_small(False)
    widths = []
    model.decoder.levels[0].register_forward_hook(lambda _m, _i, output: widths.append(output.shape[-1]))
    waveform = torch.randn(1, 2, 16 * 400)
    model.options = TrainingOptions(chunk_frames=100)
    loss_of(model, waveform).backward()
    assert len(widths) == 2 * 5  # each piece twice
    assert max(widths) < 50 < 101  # latent frames of a piece and of the whole


@pytest.mark.parametrize("complex_valued", KINDS)
@pytest.mark.parametrize("chunk_frames", [None, pytest.param(28, marks=pytest.mark.long)])
def test_activations_computed_again_give_the_same_bits(build_small, complex_valued, chunk_frames):
    torch.manual_seed(0)
    plain = build_small(complex_valued, activation="modReLU" if complex_valued else "ELU")
    again = copy.deepcopy(plain)
    for model in (plain, again):
        model.options = TrainingOptions(chunk_frames=chunk_frames)
    recompute_layers(again.encoder)
    recompute_layers(again.decoder)
    assert again.state_dict().keys() == plain.state_dict().keys()
    waveform = torch.randn(1, 2, 16 * (FRAMES - 1))
    for found, wanted in zip(gradients(again, waveform), gradients(plain, waveform), strict=True):
        assert torch.equal(found, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = zip(gradients(again, waveform), gradients(plain, waveform), strict=True)
        assert all(torch.equal(found, wanted) for found, wanted in pairs)


def saved_bytes(model, waveform):
    """Bytes that autograd keeps between the forward and the backward pass, weights left aside."""
    kept, weights = {}, {weight.data_ptr() for weight in model.parameters()}

    def note(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model.decoder(model.encoder(waveform)).square().mean()
    assert loss.requires_grad
    return sum(kept.values())


def test_activations_computed_again_are_not_kept(build_small):
    model = build_small(False, vae=False, norm="none", n_residual_layers=2)
    stacked = torch.randn(4, 4, 33, 64)
    whole = saved_bytes(model, stacked)
    recompute_layers(model.encoder)
    recompute_layers(model.decoder)
    assert saved_bytes(model, stacked) < 0.5 * whole


class _Counting(nn.Module):
    """Scales by a stored state that moves on with every pass that trains, as a power iteration does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("state", torch.zeros(()))

    def forward(self, features):
        if torch._C._current_graph_task_id() == -1:
            self.state += 1
        return (features * self.weight * self.state.clone()).sin()


def test_stored_state_in_a_second_pass_is_that_after_the_first():
    layer = _Counting()
    first = recomputed(layer, torch.ones(3))
    second = recomputed(layer, torch.ones(3))
    (first.sum() + second.sum()).backward()
    expected = 3 * (torch.tensor(1.0).cos() * 1 + torch.tensor(2.0).cos() * 2)
    torch.testing.assert_close(layer.weight.grad, expected)
    assert layer.state.item() == 2


@pytest.mark.parametrize("complex_valued", KINDS)
def test_masked_latents(build_small, complex_valued):
    torch.manual_seed(0)
    model = build_small(complex_valued)
    model.options = TrainingOptions(latent_mask_ratio=0.3)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    waveform = torch.randn(8, 2, 16 * (FRAMES - 1))

    def draws(shape):
        return torch.rand(shape, generator=torch.Generator().manual_seed(5))

    output = model(waveform, torch.zeros, draws)
    pairs = seen[0].unflatten(1, (2 if complex_valued else 1, -1))
    is_masked = (pairs == 0).all(1)
    assert torch.equal(is_masked, (pairs == 0).any(1))
    assert torch.equal(is_masked, draws(is_masked.shape) < 0.3)
    assert is_masked.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(seen[0], output.latents)
    model.eval()(waveform)
    assert (seen[1] != 0).all()

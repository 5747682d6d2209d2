"""Batch norm against torch and against eigenvectors in float64, alone and on two ranks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.dsp.complex_channels import join, split, unstack
from pipeline.layers.batch_norm import BatchNorm, ComplexBatchNorm
from tests.layers.normalised_batches import CHANNELS, build, correlated, train

KINDS = [False, True]


def whitened(norm, stacked, mean, covariance):
    """Whitening by eigenvectors, channel by channel, in complex128."""
    spectrogram = unstack(stacked)
    output = torch.empty_like(spectrogram)
    offset = torch.complex(*norm.bias.detach().unbind(0))
    for channel in range(spectrogram.shape[1]):
        pairs = torch.view_as_real(spectrogram[:, channel] - torch.complex(*mean[:, channel].unbind(0)))
        real, imag, both = covariance[:, channel]
        matrix = torch.stack((real, both, both, imag)).view(2, 2) + norm.eps * torch.eye(2)
        values, vectors = torch.linalg.eigh(matrix)
        gamma_rr, gamma_ii, gamma_ri = norm.weight.detach()[:, channel]
        gamma = torch.stack((gamma_rr, gamma_ri, gamma_ri, gamma_ii)).view(2, 2)
        mixed = pairs @ (gamma @ vectors @ torch.diag(values.rsqrt()) @ vectors.T).T
        output[:, channel] = torch.view_as_complex(mixed.contiguous()) + offset[channel]
    return output


def moments(stacked):
    """Mean (2, C) and unbiased covariance (3, C) by the library."""
    real, imag = (part.movedim(1, 0).flatten(1) for part in split(stacked))
    matrices = [torch.cov(torch.stack(pair)) for pair in zip(real, imag, strict=True)]
    mean = torch.stack((real.mean(1), imag.mean(1)))
    return mean, torch.stack([torch.stack((m[0, 0], m[1, 1], m[0, 1])) for m in matrices], dim=1)


def test_the_complex_one_against_complex128():
    norm, stacked = build(True), correlated(6)
    mean, unbiased = moments(stacked)
    count = stacked[:, 0].numel()
    expected = whitened(norm, stacked, mean, unbiased * (count - 1) / count)
    torch.testing.assert_close(unstack(norm(stacked)), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(norm.moments.running_mean, 0.1 * mean)
    start = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(norm.moments.running_covariance, 0.9 * start + 0.1 * unbiased)


def test_correlated_channels_become_white():
    stacked = correlated(6).float()
    real, imag = split(ComplexBatchNorm(CHANNELS)(stacked))
    for first, second, expected in ((real, real, 1.0), (imag, imag, 1.0), (real, imag, 0.0)):
        moment = (first * second).mean((0, 2, 3))
        torch.testing.assert_close(moment, torch.full((CHANNELS,), expected), atol=1e-3, rtol=0)


def test_the_real_one_is_the_librarys():
    ours, library = build(False), nn.BatchNorm2d(2 * CHANNELS).double()
    library.load_state_dict(
        {
            "weight": ours.weight,
            "bias": ours.bias,
            "running_mean": torch.zeros(2 * CHANNELS),
            "running_var": torch.ones(2 * CHANNELS),
            "num_batches_tracked": torch.tensor(0),
        }
    )
    for seed in range(3):
        features = correlated(4, seed).requires_grad_()
        twin = features.detach().clone().requires_grad_()
        output, expected = ours(features), library(twin)
        torch.testing.assert_close(output, expected)
        output.pow(3).mean().backward()
        expected.pow(3).mean().backward()
        torch.testing.assert_close(features.grad, twin.grad)
    torch.testing.assert_close(ours.moments.running_covariance[0], library.running_var)
    torch.testing.assert_close(ours.eval()(features), library.eval()(features))


@pytest.mark.parametrize("complex_valued", KINDS)
def test_evaluation_looks_at_nothing_but_the_running_statistics(complex_valued):
    norm = build(complex_valued)
    for seed in range(5):
        norm(correlated(4, seed))
    norm.eval()
    stacked = correlated(4, 9)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    output = norm(stacked)
    torch.testing.assert_close(norm(stacked[1:2, :, :, 2:3]), output[1:2, :, :, 2:3])
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    if complex_valued:
        expected = whitened(norm, stacked, norm.moments.running_mean, norm.moments.running_covariance)
        torch.testing.assert_close(unstack(output), expected)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_gradients(complex_valued):
    stacked = correlated(2)[:, :, :2, :2].requires_grad_()
    norm = build(complex_valued)
    assert torch.autograd.gradcheck(lambda values: norm(values), stacked)


def test_small_deviations_on_a_large_mean_survive_in_float32():
    exact = 1000 + torch.randn(4, 2, 16, 16, dtype=torch.float64)
    exact = exact.float().double()
    expected = (exact - exact.mean((0, 2, 3), keepdim=True)) / exact.std((0, 2, 3), keepdim=True)
    output = BatchNorm(2)(exact.float())
    torch.testing.assert_close(output.double(), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_statistics_are_never_in_half_precision(complex_valued):
    norms = [build(complex_valued).float() for _ in range(2)]
    half = correlated(4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = norms[0](half)
    assert torch.equal(output, norms[1](half.float()))
    assert torch.equal(norms[0].moments.running_mean, norms[1].moments.running_mean)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_a_batch_that_overflows_leaves_the_running_statistics(complex_valued):
    norm, stacked = build(complex_valued), correlated(4)
    stacked[0, 0, 0, 0] = torch.inf
    norm(stacked)
    assert all(torch.isfinite(value).all() for value in norm.state_dict().values())


@pytest.mark.parametrize("degenerate", ["silence", "real only", "fully correlated"])
def test_degenerate_input_has_finite_output_and_gradient(degenerate):
    noise = torch.randn(2, CHANNELS, 5, 5)
    stacked = {
        "silence": torch.zeros(2, 2 * CHANNELS, 5, 5),
        "real only": join(noise, torch.zeros_like(noise)),
        "fully correlated": 100 * join(noise, noise),
    }[degenerate].requires_grad_()
    norm = ComplexBatchNorm(CHANNELS)
    output = norm(stacked)
    gradients = torch.autograd.grad(output.square().sum() + output.sum(), [stacked, *norm.parameters()])
    assert torch.isfinite(output).all() and all(torch.isfinite(value).all() for value in gradients)


@pytest.mark.parametrize("complex_valued", KINDS)
def test_a_recomputed_pass_does_not_count_twice(complex_valued):
    norms, stacked = [build(complex_valued) for _ in range(2)], correlated(4).requires_grad_()
    plain = torch.autograd.grad(norms[0](stacked).pow(3).sum(), stacked)[0]
    again = torch.autograd.grad(checkpoint(norms[1], stacked, use_reentrant=False).pow(3).sum(), stacked)[0]
    assert torch.equal(plain, again)
    for name, value in norms[0].state_dict().items():
        assert torch.equal(norms[1].state_dict()[name], value), name


def test_two_ranks_with_unequal_shares_are_one(tmp_path):
    """Outputs, gradients and running statistics; these are the same to the last bit on both ranks."""
    script = Path(__file__).with_name("normalised_batches.py")
    ranks = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=120)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for kind in KINDS:
        expected = train(kind, slice(None))
        for name in expected["state"]:
            assert torch.equal(found[0][kind]["state"][name], found[1][kind]["state"][name]), name
            torch.testing.assert_close(found[0][kind]["state"][name], expected["state"][name])
        for name in ("outputs", "inputs"):
            both = torch.cat([found[rank][kind][name] for rank in range(2)], dim=1)
            torch.testing.assert_close(both, expected[name])
        for name, gradient in expected["parameters"].items():
            torch.testing.assert_close(
                sum(found[rank][kind]["parameters"][name] for rank in (0, 1)), gradient
            )

import pytest
import torch
from torch import Tensor, nn

from pipeline.dsp.complex_channels import split, stack, unstack
from pipeline.layers.norm import (
    ComplexFrameNorm,
    ComplexGroupNorm,
    FrameNorm,
    build_feature_norm,
    build_group_norm,
)


def _correlated(batch: int, channels: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Stacked values with a mean, unequal variances and a strong correlation of the parts."""
    real = 2 + 3 * torch.randn(batch, channels, size, size, dtype=dtype)
    imag = -1 + 0.8 * real + 0.5 * torch.randn(batch, channels, size, size, dtype=dtype)
    return torch.cat((real, imag), 1)


def _reference(norm: ComplexGroupNorm, stacked: Tensor) -> Tensor:
    """Whitening in complex128 by eigenvectors, group by group."""
    spectrogram = unstack(stacked.double())
    output = torch.empty_like(spectrogram)
    width = spectrogram.shape[1] // norm.num_groups
    weight, bias = norm.weight.detach().double(), torch.complex(*norm.bias.detach().double().unbind(0))
    for example in range(spectrogram.shape[0]):
        for first in range(0, spectrogram.shape[1], width):
            group = spectrogram[example, first : first + width]
            centred = group - group.mean()
            pairs = torch.view_as_real(centred).reshape(-1, 2)
            covariance = pairs.T @ pairs / len(pairs) + norm.eps * torch.eye(2, dtype=torch.float64)
            values, vectors = torch.linalg.eigh(covariance)
            white = (pairs @ (vectors @ torch.diag(values.rsqrt()) @ vectors.T)).reshape(*group.shape, 2)
            for place in range(width):
                real_real, imag_imag, real_imag = weight[:, first + place]
                gamma = torch.stack((real_real, real_imag, real_imag, imag_imag)).view(2, 2)
                mixed = torch.view_as_complex((white[place] @ gamma.T).contiguous())
                output[example, first + place] = mixed + bias[first + place]
    return output


@pytest.mark.parametrize("num_groups", [1, 2])
def test_correlated_input_becomes_white(num_groups):
    torch.manual_seed(0)
    real, imag = split(ComplexGroupNorm(num_groups, 4)(_correlated(3, 4, 16)))
    for part in (real, imag):
        torch.testing.assert_close(
            part.unflatten(1, (num_groups, -1)).mean((2, 3, 4)), torch.zeros(3, num_groups), atol=1e-3, rtol=0
        )
    for first, second, expected in ((real, real, 1.0), (imag, imag, 1.0), (real, imag, 0.0)):
        moment = (first * second).unflatten(1, (num_groups, -1)).mean((2, 3, 4))
        torch.testing.assert_close(moment, torch.full((3, num_groups), expected), atol=1e-3, rtol=0)


@pytest.mark.parametrize("num_groups", [1, 2])
def test_against_complex128(num_groups):
    torch.manual_seed(0)
    norm = ComplexGroupNorm(num_groups, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    stacked = _correlated(2, 4, 12)
    reference = stack(_reference(norm, stacked))
    output = norm(stacked).detach().double()
    assert ((output - reference).norm() / reference.norm()).item() <= 1e-6


def test_gradients_are_right_and_keep_float32_precision():
    torch.manual_seed(0)
    stacked = _correlated(1, 2, 3, torch.float64).requires_grad_()
    norm = ComplexGroupNorm(1, 2).double()
    assert torch.autograd.gradcheck(norm, stacked)

    target = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    exact = torch.autograd.grad((norm(stacked) * target).sum(), [stacked, *norm.parameters()])
    single = stacked.detach().float().requires_grad_()
    ours = torch.autograd.grad((norm.float()(single) * target.float()).sum(), [single, *norm.parameters()])
    for gradient, reference in zip(ours, exact, strict=True):
        assert ((gradient.double() - reference).norm() / reference.norm()).item() <= 1e-5


@pytest.mark.parametrize("degenerate", ["silence", "real only", "fully correlated"])
def test_degenerate_input_has_finite_output_and_gradient(degenerate):
    stacked = {
        "silence": torch.zeros(1, 4, 5, 5),
        "real only": torch.cat((torch.randn(1, 2, 5, 5), torch.zeros(1, 2, 5, 5)), 1),
        "fully correlated": 100 * torch.randn(1, 2, 5, 5).repeat(1, 2, 1, 1),
    }[degenerate].requires_grad_()
    norm = ComplexGroupNorm(1, 2)
    output = norm(stacked)
    gradients = torch.autograd.grad(output.square().sum() + output.sum(), [stacked, *norm.parameters()])
    assert torch.isfinite(output).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_statistics_are_never_in_half_precision():
    norm = ComplexGroupNorm(1, 4)
    stacked = _correlated(2, 4, 8)
    expected = norm(stacked.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(stacked.bfloat16()), expected)


def test_one_axis_and_both_kinds():
    assert build_group_norm(4, complex_valued=True)(torch.randn(2, 8, 10)).shape == (2, 8, 10)
    real = build_group_norm(4, complex_valued=False)
    assert isinstance(real, nn.GroupNorm)
    assert real(torch.randn(2, 4, 10)).shape == (2, 4, 10)


def test_complex_layer_norm_is_the_group_norm_of_each_frame():
    torch.manual_seed(0)
    norm, group = ComplexFrameNorm(4), ComplexGroupNorm(1, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    group.load_state_dict(norm.state_dict())
    stacked = _correlated(2, 4, 8)
    output = norm(stacked)
    for frame in range(8):
        torch.testing.assert_close(
            output[..., frame], group(stacked[..., frame : frame + 1])[..., 0], rtol=1e-4, atol=1e-4
        )
    single = norm(stacked[:, :, 3])
    torch.testing.assert_close(
        single, torch.cat([group(stacked[:, :, 3, at : at + 1]) for at in range(8)], -1), rtol=1e-4, atol=1e-4
    )


def test_real_layer_norm_is_the_librarys_of_each_frame():
    features = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    expected = nn.functional.layer_norm(features.movedim(-1, 1), (4, 6)).movedim(1, -1)
    norm = FrameNorm(4).double()
    torch.testing.assert_close(norm(features), expected)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    library = nn.LayerNorm(4).double()
    library.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(features[:, :, 0]), library(features[:, :, 0].mT).mT)


@pytest.mark.parametrize("build", [ComplexFrameNorm, lambda channels: FrameNorm(2 * channels)])
def test_layer_norms_have_right_gradients_and_are_never_in_half_precision(build):
    norm, stacked = build(2).double(), _correlated(1, 2, 3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(norm, stacked)
    half = stacked.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm.float()(half), norm(half.float()))
    silence = torch.zeros(1, 4, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(norm(silence).sum() + norm(silence).square().sum(), silence)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["group_norm", "layer_norm", "batch_norm"])
def test_whitening_turns_with_its_input_until_gamma_and_bias_are_learned(name):
    """V of rotated values is R V R^T, and R V^(-1/2) R^T R z = R V^(-1/2) z; Gamma does not commute with R."""
    torch.manual_seed(0)
    norm = build_feature_norm(name, 2, complex_valued=True, causal=False).double()
    stacked = _correlated(2, 2, 6, torch.float64)
    turn = torch.exp(torch.tensor(0.7j))

    def distance() -> float:
        turned = unstack(norm(stack(unstack(stacked) * turn)))
        return (turned - unstack(norm(stacked)) * turn).abs().max().item()

    assert distance() < 1e-6
    nn.init.normal_(norm.weight)
    assert distance() > 0.1


def test_a_causal_group_norm_is_the_layer_norm():
    assert isinstance(build_feature_norm("group_norm", 4, complex_valued=True, causal=True), ComplexFrameNorm)
    assert isinstance(build_feature_norm("group_norm", 4, complex_valued=False, causal=True), FrameNorm)

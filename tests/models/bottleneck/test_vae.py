import math

import pytest
import torch
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.models.bottleneck.vae import VAEBottleneck


def _scale_for(sigma: float) -> float:
    """The scale whose softplus is sigma - 1e-4."""
    return math.log(math.expm1(sigma - 1e-4))


def test_kl_of_a_standard_normal_is_zero():
    bottleneck = VAEBottleneck(dimension=6, complex_valued=False)
    latents = torch.cat((torch.zeros(2, 3, 5), torch.full((2, 3, 5), _scale_for(1.0))), 1)
    _, loss_info = bottleneck(latents)
    assert loss_info["kl"].shape == ()
    assert loss_info["kl"].item() == pytest.approx(0, abs=1e-6)


def test_kl_hand_worked():
    """Mean 2 and sigma 0.5 in one channel, mean -1 and sigma 3 in the other, one of two frames each."""
    bottleneck = VAEBottleneck(dimension=4, complex_valued=False)
    standard = _scale_for(1.0)
    first = torch.tensor([2.0, -1.0, _scale_for(0.5), _scale_for(3.0)])
    second = torch.tensor([0.0, 0.0, standard, standard])
    _, loss_info = bottleneck(torch.stack((first, second), dim=1).unsqueeze(0))
    channel_a = 4 + 0.25 - math.log(0.25) - 1
    channel_b = 1 + 9 - math.log(9) - 1
    assert loss_info["kl"].item() == pytest.approx((channel_a + channel_b) / 2, rel=1e-6)


def test_samples_in_training_and_means_in_evaluation():
    torch.manual_seed(0)
    bottleneck = VAEBottleneck(dimension=4, complex_valued=False)
    latents = torch.cat((torch.full((1, 2, 20_000), 3.0), torch.full((1, 2, 20_000), _scale_for(0.5))), 1)
    sample, _ = bottleneck(latents)
    assert sample.shape == (1, 2, 20_000)
    assert sample.mean().item() == pytest.approx(3, abs=0.02)
    assert sample.std().item() == pytest.approx(0.5, rel=0.02)
    mean, _ = bottleneck.eval()(latents)
    assert torch.equal(mean, latents[:, :2])


@pytest.mark.parametrize("complex_valued", [False, True])
def test_given_noise_is_used_in_training_only(complex_valued):
    bottleneck = VAEBottleneck(dimension=4, complex_valued=complex_valued)
    latents = torch.randn(2, bottleneck.latent_channels * 2, 5)
    asked = []

    def noise(shape: torch.Size) -> torch.Tensor:
        asked.append(tuple(shape))
        return torch.ones(shape, dtype=torch.float64)

    sample, _ = bottleneck(latents, noise)
    mean, _ = bottleneck.eval()(latents, noise)
    assert asked == [(2, bottleneck.latent_channels, 5)]
    assert sample.dtype == torch.float32
    assert (sample - mean).min() > 0  # sigma times one


def test_complex_latents_are_halved_part_by_part():
    bottleneck = VAEBottleneck(dimension=4, complex_valued=True).eval()
    assert (bottleneck.dimension, bottleneck.latent_channels) == (2, 4)
    latents = torch.randn(1, 8, 3)
    mean, loss_info = bottleneck(latents)
    assert torch.equal(mean, latents[:, [0, 1, 4, 5]])
    sigma = functional.softplus(latents[:, [2, 3, 6, 7]]) + 1e-4
    expected = (mean**2 + sigma**2 - 2 * sigma.log() - 1).sum(1).mean()
    torch.testing.assert_close(loss_info["kl"], expected)


def test_half_precision_latents_are_handled_in_float32():
    bottleneck = VAEBottleneck(dimension=4, complex_valued=False)
    with torch.autocast("cpu", torch.bfloat16):
        sample, loss_info = bottleneck(torch.randn(2, 4, 5).bfloat16())
    assert sample.dtype == loss_info["kl"].dtype == torch.float32


def test_gradient_is_finite_for_extreme_scales():
    bottleneck = VAEBottleneck(dimension=2, complex_valued=False)
    latents = torch.tensor([[[0.0, 1e3], [-200.0, 80.0]]], requires_grad=True)
    sample, loss_info = bottleneck(latents)
    (gradient,) = torch.autograd.grad(sample.sum() + loss_info["kl"], latents)
    assert torch.isfinite(gradient).all()


def test_an_odd_dimension_is_refused():
    with pytest.raises(ConfigError, match="dimension=5 must be divisible by 2 for VAEBottleneck"):
        VAEBottleneck(dimension=5, complex_valued=False)

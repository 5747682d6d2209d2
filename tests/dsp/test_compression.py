import math

import pytest
import torch

from pipeline.dsp import COMPRESSIONS
from pipeline.dsp.complex_channels import magnitude_squared, stack, unstack
from pipeline.dsp.compression import Compression, LogMag, NoCompression, PowerNorm

MAPS = [NoCompression(), LogMag(alpha=5.0), PowerNorm(alpha=0.65, beta=0.35), PowerNorm(alpha=1.0, beta=2.0)]


def _with_magnitude(magnitude: float) -> torch.Tensor:
    angle = 2.0
    return torch.tensor([magnitude * math.cos(angle), magnitude * math.sin(angle)]).view(1, 2, 1, 1)


@pytest.mark.parametrize("compression", MAPS)
@pytest.mark.parametrize("magnitude", [0.0, 1e-12, 1e-8, 1e-6, 1e-3, 0.5, 1.0, 40.0])
def test_inverse_is_exact_at_any_magnitude(compression, magnitude):
    stacked = _with_magnitude(magnitude)
    restored = compression.inverse(compression(stacked))
    torch.testing.assert_close(restored, stacked, rtol=5e-6, atol=0)


@pytest.mark.parametrize("compression", MAPS)
def test_inverse_is_exact_in_float64_and_keeps_phase(compression):
    spectrogram = torch.randn(2, 2, 9, 7, dtype=torch.complex128)
    compressed = compression(stack(spectrogram))
    torch.testing.assert_close(unstack(compressed).angle(), spectrogram.angle())
    torch.testing.assert_close(unstack(compression.inverse(compressed)), spectrogram, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("compression", "magnitude", "compressed"),
    [
        (NoCompression(), 3.0, 3.0),
        (LogMag(alpha=2.0), (math.e - 1) / 2, 1.0),
        (PowerNorm(alpha=0.5, beta=3.0), 4.0, 6.0),
    ],
)
def test_hand_worked_values(compression, magnitude, compressed):
    result = magnitude_squared(compression(_with_magnitude(magnitude))).sqrt()
    assert result.item() == pytest.approx(compressed, rel=1e-6)


@pytest.mark.parametrize("compression", MAPS)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_are_finite_at_silence(compression, direction):
    stacked = torch.zeros(1, 4, 3, 2, requires_grad=True)
    result = getattr(compression, direction)(stacked)
    assert torch.equal(result, torch.zeros_like(result))
    (gradient,) = torch.autograd.grad(result.sum() + result.square().sum(), stacked)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("compression", MAPS[1:])
def test_gradients_are_right(compression):
    stacked = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(compression, stacked)
    assert torch.autograd.gradcheck(compression.inverse, stacked)


@pytest.mark.parametrize("compression", MAPS)
def test_half_precision_is_upcast_also_under_autocast(compression):
    stacked = torch.randn(1, 2, 3, 2)
    expected = compression(stacked)
    with torch.autocast("cpu", torch.bfloat16):
        assert compression(stacked.bfloat16()).dtype == torch.float32
        assert torch.equal(compression(stacked), expected)
        assert compression.inverse(stacked.bfloat16()).dtype == torch.float32


def test_registry_names_compressions():
    names = {target.rpartition(":")[2] for target in COMPRESSIONS.values()}
    assert names == {cls.__name__ for cls in Compression.__subclasses__()}

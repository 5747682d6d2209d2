"""Losses with phases, mel bands, A-weighting and mid/side against formulas written out with NumPy in float64."""

import math

import numpy as np
import pytest
import torch
from torchaudio.functional import melscale_fbanks

from pipeline.errors import ConfigError, ShapeError
from pipeline.losses.phase import PhaseCosine
from pipeline.losses.spectral import MultiResolutionStft
from pipeline.losses.stereo import MidSideL1, MidSideStft, to_mid_side

RATE_HZ = 8000


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectra(waveform, n_fft, hop):
    """Magnitudes (B, C, F, T) by a loop over frames."""
    samples = waveform.numpy()
    frames = math.ceil(samples.shape[-1] / hop) + 1
    filled = np.pad(samples, ((0, 0), (0, 0), (0, (frames - 1) * hop - samples.shape[-1])))
    mirrored = np.pad(filled, ((0, 0), (0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    window /= np.sqrt((window**2).sum())
    columns = [np.fft.rfft(mirrored[..., t * hop : t * hop + n_fft] * window) for t in range(frames)]
    return np.abs(np.stack(columns, axis=-1))


def weighted(magnitudes, n_fft, n_mels, is_weighted):
    if is_weighted:
        f2 = np.fft.rfftfreq(n_fft, 1 / RATE_HZ) ** 2

        def response(f2):
            poles = (
                (f2 + 20.598997**2) * np.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2)) * (f2 + 12194.217**2)
            )
            return 12194.217**2 * f2**2 / poles

        magnitudes = magnitudes * (response(f2) / response(1e6))[:, None]
    if n_mels:
        bank = melscale_fbanks(
            n_fft // 2 + 1, 0.0, RATE_HZ / 2, n_mels, RATE_HZ, norm="slaney", mel_scale="slaney"
        )
        magnitudes = np.einsum("fm,bcft->bcmt", bank.double().numpy(), magnitudes)
    return magnitudes


def mrstft(estimate, reference, sizes, bands, is_weighted, w_sc, w_log, w_lin, eps=1e-5):
    values = []
    for n_fft, n_mels in zip(sizes, bands, strict=True):
        found, wanted = (
            np.maximum(weighted(spectra(x, n_fft, n_fft // 4), n_fft, n_mels, is_weighted), eps)
            for x in (estimate, reference)
        )
        norm = np.sqrt(((wanted - found) ** 2).sum((-2, -1)) / (wanted**2).sum((-2, -1)))
        log, lin = np.abs(np.log(found) - np.log(wanted)).mean(), np.abs(found - wanted).mean()
        values.append(w_sc * norm.mean() + w_log * log + w_lin * lin)
    return float(np.mean(values))


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("n_mels", [None, [8, 16]])
def test_mrstft_with_mel_bands_and_a_weighting(is_weighted, n_mels):
    estimate, reference = noise(3, 2, 700), noise(3, 2, 700, seed=1)
    loss = MultiResolutionStft(
        [64, 128], w_lin_mag=0.5, n_mels=n_mels, a_weighting=is_weighted, sample_rate_hz=RATE_HZ
    )
    expected = mrstft(estimate, reference, [64, 128], n_mels or [None, None], is_weighted, 1.0, 1.0, 0.5)
    assert loss(estimate, reference).item() == pytest.approx(expected, rel=2e-6)
    in_float32 = loss(estimate.float(), reference.float()).item()
    assert in_float32 == pytest.approx(expected, rel=2e-5)


def test_mid_and_side_keep_the_energy():
    stereo = noise(2, 2, 50)
    mid, side = to_mid_side(stereo)
    torch.testing.assert_close(mid.square().sum() + side.square().sum(), stereo.square().sum())
    assert to_mid_side(stereo[:, :1].repeat(1, 2, 1))[1].abs().max() == 0
    with pytest.raises(ShapeError, match="2 channels"):
        to_mid_side(stereo[:, :1])


def test_mid_side_losses():
    estimate, reference = noise(3, 2, 700), noise(3, 2, 700, seed=1)
    sums = [(x[:, :1] + x[:, 1:]) / math.sqrt(2) for x in (estimate, reference)]
    differences = [(x[:, :1] - x[:, 1:]) / math.sqrt(2) for x in (estimate, reference)]
    loss = MidSideStft([64], w_sc=0.3, w_lin_mag=0.5, w_mid=2.0, w_side=0.25, sample_rate_hz=RATE_HZ)
    expected = [mrstft(*pair, [64], [None], False, 0.3, 1.0, 0.5) for pair in (sums, differences)]
    assert loss(estimate, reference).item() == pytest.approx(2.0 * expected[0] + 0.25 * expected[1], rel=1e-6)
    by_sample = MidSideL1(w_mid=0.0, w_side=3.0)(estimate, reference).item()
    assert by_sample == pytest.approx(3.0 * (differences[0] - differences[1]).abs().mean().item(), rel=1e-12)


@pytest.mark.parametrize("energy", ["reference", "mean"])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_phase_cosine(energy, power):
    estimate, reference = noise(3, 4, 9, 6), noise(3, 4, 9, 6, seed=1)
    found, wanted = (x.numpy()[:, :2] + 1j * x.numpy()[:, 2:] for x in (estimate, reference))
    level = np.abs(wanted) if energy == "reference" else (np.abs(wanted) + np.abs(found)) / 2
    weight = level**power
    distance = weight * (1 - np.cos(np.angle(found) - np.angle(wanted)))
    expected = (distance.sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
    loss = PhaseCosine(energy, power)
    assert loss(estimate, reference).item() == pytest.approx(expected, rel=1e-9)
    # it sees phases only, and its gradient turns them: no component along the estimate
    assert loss(3 * estimate, reference).item() == pytest.approx(expected, rel=1e-9) or energy == "mean"
    estimate.requires_grad_()
    loss(estimate, reference).backward()
    along = (estimate.grad * estimate.detach()).unflatten(1, (2, 2)).sum(1)
    assert along.abs().max() < 1e-12 < estimate.grad.abs().max()


def test_zero_weights_are_refused():
    with pytest.raises(ConfigError, match="^w_mid and w_side"):
        MidSideL1(w_mid=0.0, w_side=0.0)

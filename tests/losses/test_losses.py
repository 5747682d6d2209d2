"""Every loss: zero on itself, hand-worked values, shapes, silence, precision, and the batch convention."""

import math

import pytest
import torch

from pipeline.errors import ConfigError, ShapeError
from pipeline.losses.mel import MultiScaleMel
from pipeline.losses.phase import PhaseCosine
from pipeline.losses.spectral import MultiResolutionStft, StftMse, spectral_convergence
from pipeline.losses.stereo import MidSideL1, MidSideStft
from pipeline.losses.time import L1, L2
from pipeline.losses.value import ValueLoss

SHAPES = {"waveform": (4, 2, 700), "spectrogram": (4, 4, 9, 6)}


def build_all():
    sizes = {"fft_sizes": [64, 128]}
    return {
        "stft_mse": StftMse(),
        "stft_mse sum": StftMse(reduction="sum"),
        "mrstft": MultiResolutionStft(**sizes, w_lin_mag=0.5),
        "mrstft mel A": MultiResolutionStft(**sizes, n_mels=[8, 16], a_weighting=True, sample_rate_hz=8000),
        "mrstft_mid_side": MidSideStft(**sizes),
        "phase_cosine": PhaseCosine(),
        "phase_cosine mean": PhaseCosine(energy="mean", power=2.0),
        "l1_mid_side": MidSideL1(),
        "mrmel": MultiScaleMel(**sizes, n_mels=[8, 16], mag_weight=0.5, sample_rate_hz=8000),
        "l1": L1(),
        "l1 sum": L1(reduction="sum"),
        "l2": L2(),
        "l2 sum": L2(reduction="sum"),
    }


def noise(loss, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPES[loss.domain], generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture(params=build_all())
def loss(request):
    return build_all()[request.param]


def test_zero_on_itself(loss):
    assert loss(noise(loss), noise(loss)).item() == 0.0


def test_positive_on_others(loss):
    assert loss(noise(loss), noise(loss, seed=1)).item() > 0.0


def test_refuses_unequal_shapes(loss):
    with pytest.raises(ShapeError, match=r"\(4, .*\(3, "):
        loss(noise(loss), noise(loss)[:3])


def test_refuses_missing_axis(loss):
    with pytest.raises(ShapeError):
        loss(noise(loss)[0], noise(loss)[0])


def test_refuses_odd_channels_of_stacked_spectrograms():
    with pytest.raises(ShapeError, match="stacked"):
        StftMse()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))


def test_mean_of_half_batches_is_the_whole(loss):
    estimate, reference = noise(loss, dtype=torch.float64), noise(loss, 1, torch.float64)
    halves = [loss(estimate[half], reference[half]) for half in (slice(0, 2), slice(2, 4))]
    assert torch.stack(halves).mean().item() == pytest.approx(loss(estimate, reference).item(), rel=1e-12)


@pytest.mark.parametrize("silent", ["both", "estimate", "reference"])
def test_finite_gradients_on_silence(loss, silent):
    estimate = torch.zeros(SHAPES[loss.domain]) if silent != "reference" else noise(loss)
    reference = torch.zeros(SHAPES[loss.domain]) if silent != "estimate" else noise(loss)
    estimate.requires_grad_()
    value = loss(estimate, reference)
    value.backward()
    assert math.isfinite(value.item())
    assert estimate.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_precision_is_at_least_float32(loss, dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(noise(loss, dtype=dtype), noise(loss, 1, dtype))
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    full = loss(noise(loss, dtype=dtype).double(), noise(loss, 1, dtype).double())
    assert value.item() == pytest.approx(full.item(), rel=1e-5)


def test_nothing_goes_into_a_checkpoint(loss):
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_stft_mse_by_hand():
    """Two complex bins of one channel: |3+4j|^2 = 25 and |1j|^2 = 1; both parts of a bin add up."""
    estimate = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]]])
    reference = torch.zeros_like(estimate)
    assert StftMse()(estimate, reference).item() == 13.0
    assert StftMse(reduction="sum")(estimate, reference).item() == 26.0


def test_time_losses_by_hand():
    """Two examples with differences 1, -3 and 0, 2: mean |d| is 2 and 1, mean d^2 is 5 and 2."""
    estimate = torch.tensor([[[1.0, 0.0]], [[1.0, 2.0]]])
    reference = torch.tensor([[[0.0, 3.0]], [[1.0, 0.0]]])
    assert L1()(estimate, reference).item() == 1.5
    assert L2()(estimate, reference).item() == 3.5
    assert L1(reduction="sum")(estimate, reference).item() == 3.0
    assert L2(reduction="sum")(estimate, reference).item() == 7.0


def test_spectral_convergence_by_hand():
    """||(3, 4) - (0, 0)|| / ||(3, 4)|| = 1 and ||(3, 4) - (3, 0)|| / 5 = 0.8, per channel."""
    reference = torch.tensor([3.0, 4.0]).view(1, 1, 2, 1).repeat(1, 2, 1, 1)
    estimate = torch.tensor([[0.0, 0.0], [3.0, 0.0]]).view(1, 2, 2, 1)
    assert spectral_convergence(estimate, reference)[0].tolist() == pytest.approx([1.0, 0.8])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"w_sc": 2.0, "w_log_mag": 0.0}, 2.0 * 0.5),
        ({"w_sc": 0.0, "w_log_mag": 3.0}, 3.0 * math.log(2)),
        ({"w_sc": 1.0, "w_log_mag": 1.0}, 0.5 + math.log(2)),
    ],
)
def test_mrstft_of_a_halved_signal(weights, expected):
    """Halving a signal halves all magnitudes: SC is 0.5 and every log magnitude differs by ln 2."""
    loss = MultiResolutionStft(fft_sizes=[64, 128], eps=1e-9, **weights)
    reference = noise(loss, dtype=torch.float64)
    assert loss(0.5 * reference, reference).item() == pytest.approx(expected, rel=1e-6)


def test_mrstft_linear_magnitude_of_white_noise():
    """White noise of variance 1 has Rayleigh magnitudes, of mean sqrt(pi)/2; twice it differs by that."""
    loss = MultiResolutionStft(fft_sizes=[256], w_sc=0.0, w_log_mag=0.0, w_lin_mag=1.0)
    waveform = torch.randn(2, 1, 60_000, generator=torch.Generator().manual_seed(0))
    assert loss(2 * waveform, waveform).item() == pytest.approx(math.sqrt(math.pi) / 2, rel=0.02)


def test_mrstft_is_bounded_on_silent_references():
    """A faint estimate (-80 dB) of silence costs little: magnitudes below `eps` are the same."""
    loss = MultiResolutionStft(fft_sizes=[64], eps=1e-3)
    faint = 1e-4 * noise(loss)
    assert loss(faint, torch.zeros_like(faint)).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("pow", "expected"), [(1.0, 1.0), (2.0, 2.0)])
def test_mel_of_a_tenth_of_a_signal(pow, expected):
    """A tenth of a signal differs by 1 in each log10 magnitude; the scales add up."""
    loss = MultiScaleMel([64, 128], [8, 16], clamp_eps=1e-12, pow=pow, sample_rate_hz=8000)
    reference = noise(loss, dtype=torch.float64)
    assert loss(0.1 * reference, reference).item() == pytest.approx(2 * expected, rel=1e-6)


def test_mel_linear_term_scales_with_the_difference():
    loss = MultiScaleMel([64], [8], log_weight=0.0, mag_weight=1.0, sample_rate_hz=8000)
    reference = noise(loss, dtype=torch.float64)
    mel = loss.scales[0](reference).mean().item()
    assert loss(1.5 * reference, reference).item() == pytest.approx(0.5 * mel, rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_default_sizes_build():
    MultiResolutionStft()
    MultiScaleMel(sample_rate_hz=44100)


def test_value_loss_takes_its_key():
    kl = torch.tensor(2.5, requires_grad=True)
    assert ValueLoss(key="kl")({"kl": kl, "other": torch.tensor(1.0)}) is kl


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiResolutionStft(fft_sizes=[]), "^fft_sizes"),
        (lambda: MultiResolutionStft(fft_sizes=[64, 128], hop_sizes=[16]), "^hop_sizes has 1 .* 2"),
        (lambda: MultiResolutionStft(fft_sizes=[64], win_lengths=[128]), r"^fft_sizes\[0\]: win_length=128"),
        (lambda: MultiResolutionStft(w_sc=0.0, w_log_mag=0.0), "^w_sc"),
        (lambda: MultiScaleMel([64], [40], sample_rate_hz=8000), "^n_mels: 40 .* 33"),
        (lambda: MultiScaleMel([64], [8, 8], sample_rate_hz=8000), "^n_mels has 2"),
        (lambda: MultiScaleMel([64], [8], log_weight=0.0, sample_rate_hz=8000), "^log_weight"),
    ],
)
def test_constructors_refuse_with_the_argument_first(build, message):
    with pytest.raises(ConfigError, match=message):
        build()

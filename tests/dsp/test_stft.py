import pytest
import torch

from pipeline.dsp.stft import Stft
from pipeline.errors import ConfigError, ShapeError

SIZES = [(64, 16, 64), (64, 32, 64), (96, 20, 60), (50, 7, 31), (16, 1, 2)]
LENGTHS = [1, 2, 15, 16, 17, 33, 64, 101, 1000, 1001]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_inverse_is_exact_at_any_length(sizes, num_samples):
    stft = Stft(*sizes)
    waveform = torch.randn(2, 3, num_samples)
    spectrogram = stft(waveform)
    assert spectrogram.shape == (2, 3, sizes[0] // 2 + 1, -(-num_samples // sizes[1]) + 1)
    assert spectrogram.shape[-1] == stft.num_frames(num_samples)
    restored = stft.inverse(spectrogram, num_samples)
    assert restored.shape == waveform.shape
    torch.testing.assert_close(restored, waveform, atol=3e-6, rtol=0)


@pytest.mark.parametrize("sizes", SIZES)
def test_inverse_is_exact_in_float64(sizes):
    stft = Stft(*sizes).double()
    waveform = torch.randn(1, 2, 501, dtype=torch.float64)
    spectrogram = stft(waveform)
    assert spectrogram.dtype == torch.complex128
    torch.testing.assert_close(stft.inverse(spectrogram, 501), waveform, atol=1e-13, rtol=0)


@pytest.mark.parametrize("sizes", SIZES)
def test_equals_the_library_where_the_length_is_whole_hops(sizes):
    n_fft, hop, win = sizes
    waveform = torch.randn(2, 2, 40 * hop + n_fft // hop * hop)
    stft = Stft(*sizes)
    library = torch.stft(
        waveform.flatten(0, 1),
        n_fft,
        hop,
        win,
        window=torch.hann_window(win, dtype=torch.float64).float(),
        return_complex=True,
    )
    expected = library.unflatten(0, (2, 2)) / torch.hann_window(win).square().sum().sqrt()
    torch.testing.assert_close(stft(waveform), expected, atol=2e-6, rtol=0)


def test_scale_keeps_the_variance_of_white_noise():
    torch.manual_seed(0)
    for sizes in ((256, 64, 256), (512, 128, 300)):
        power = Stft(*sizes)(0.3 * torch.randn(1, 1, 100_000)).abs().square()
        assert power[:, :, 4:-4].mean().item() == pytest.approx(0.09, rel=0.02)


def test_gradient_equals_the_library_and_is_finite_at_silence():
    stft = Stft(64, 16, 64).double()
    waveform = torch.randn(1, 1, 320, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 1, 33, 21, dtype=torch.float64)
    (ours,) = torch.autograd.grad((stft(waveform).abs() * weight).sum(), waveform)
    library = torch.stft(waveform[0], 64, 16, window=stft.window, return_complex=True)
    (expected,) = torch.autograd.grad((library.abs() * weight[0]).sum(), waveform)
    torch.testing.assert_close(ours, expected)

    silence = torch.zeros(1, 1, 100, requires_grad=True)
    spectrogram = Stft(64, 16, 64)(silence)
    restored = Stft(64, 16, 64).inverse(spectrogram, 100)
    (gradient,) = torch.autograd.grad(restored.square().sum() + spectrogram.abs().sum(), silence)
    assert torch.isfinite(gradient).all()


def test_window_survives_half_precision():
    stft = Stft(64, 16, 64)
    window = stft.window.clone()
    waveform = torch.randn(1, 1, 200).bfloat16()
    for cast in (torch.float16, torch.bfloat16):
        stft = stft.to(cast)
        assert torch.equal(stft.window, window)
        assert stft(waveform).dtype == torch.complex64
    assert torch.equal(stft(waveform), Stft(64, 16, 64)(waveform.float()))
    assert "window" not in stft.state_dict()


def test_runs_in_float32_under_autocast():
    stft = Stft(64, 16, 64)
    waveform = torch.randn(1, 1, 200)
    plain = stft(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        inside = stft(waveform)
        restored = stft.inverse(inside, 200)
    assert torch.equal(plain, inside)
    torch.testing.assert_close(restored, waveform, atol=3e-6, rtol=0)


def test_float64_input_gets_a_float64_window():
    waveform = torch.randn(1, 1, 100, dtype=torch.float64)
    assert torch.equal(Stft(64, 16, 64)(waveform), Stft(64, 16, 64).double()(waveform))


def test_refuses_what_cannot_be_transformed():
    stft = Stft(64, 16, 64)
    with pytest.raises(ShapeError, match="at least one sample"):
        stft(torch.zeros(1, 1, 0))
    with pytest.raises(ShapeError, match="17 bins.*33"):
        stft.inverse(torch.zeros(1, 1, 17, 4, dtype=torch.complex64), 16)
    with pytest.raises(ShapeError, match="4 frames hold 48 samples, not 49"):
        stft.inverse(torch.zeros(1, 1, 33, 4, dtype=torch.complex64), 49)
    with pytest.raises(ConfigError, match="^hop_length=33"):
        Stft(64, 33, 64)

"""An autoencoder computes the same in every form; its weights and their names do not know the form."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.models.form import Form

Build = Callable[..., SpectrogramAutoencoder]
FOLDED = Form(fold=True)


def trained(autoencoder: SpectrogramAutoencoder, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The estimate and all gradients of one training pass."""
    autoencoder.train().zero_grad()
    output = autoencoder(waveform, noise=lambda shape: torch.zeros(tuple(shape), dtype=waveform.dtype))
    difference = output.estimate_spectrogram - output.reference_spectrogram
    difference.square().mean().backward()
    gradients = [weight.grad for weight in autoencoder.parameters() if weight.grad is not None]
    return output.estimate_spectrogram.detach(), gradients


@pytest.mark.parametrize("complex_valued", [True, False])
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros"])
@pytest.mark.parametrize("changes", [{}, {"causal": True}, {"double_final_conv": True, "true_skip": True}])
def test_forms_agree(
    build_small: Build, complex_valued: bool, pad_mode: str, changes: dict[str, Any]
) -> None:
    autoencoder = build_small(complex_valued, pad_mode=pad_mode, **changes).double()
    waveform = torch.randn(2, 2, 700, dtype=torch.float64)
    estimate, gradients = trained(autoencoder, waveform)
    autoencoder.set_form(FOLDED)
    assert autoencoder.encoder.folds and autoencoder.decoder.folds
    folded_estimate, folded_gradients = trained(autoencoder, waveform)
    torch.testing.assert_close(folded_estimate, estimate, rtol=0, atol=1e-11)
    for folded, plain in zip(folded_gradients, gradients, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-12)


def test_validation_computes_layer_by_layer(build_small: Build) -> None:
    autoencoder = build_small(True).eval()
    waveform = torch.randn(1, 2, 700)
    plain = autoencoder(waveform).estimate_spectrogram
    names = set(autoencoder.state_dict())
    autoencoder.set_form(FOLDED)
    assert torch.equal(autoencoder(waveform).estimate_spectrogram, plain)
    assert set(autoencoder.state_dict()) == names


def test_what_cannot_be_folded_stays_as_it_is(build_small: Build) -> None:
    autoencoder = build_small(True, norm="layer_norm")
    waveform = torch.randn(1, 2, 700)
    plain, _ = trained(autoencoder, waveform)
    autoencoder.set_form(FOLDED)
    assert not autoencoder.encoder.folds
    assert torch.equal(trained(autoencoder, waveform)[0], plain)


def test_training_passes_are_one_graph_each(build_small: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `torch.compile` traces, run without a compiler: no part of a pass is left to Python."""
    given: list[dict[str, Any]] = []

    def trace(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        given.append(options.pop("options"))
        return partial(compile_function(function, backend="eager", **options))

    compile_function = torch.compile
    monkeypatch.setattr(torch, "compile", trace)
    autoencoder = build_small(True)
    waveform = torch.randn(1, 2, 300)
    plain, gradients = trained(autoencoder, waveform)
    autoencoder.set_form(Form(fold=True, compile=True, graphs=True))
    estimate, traced_gradients = trained(autoencoder, waveform)
    torch.testing.assert_close(estimate, plain)
    for traced, expected in zip(traced_gradients, gradients, strict=True):
        torch.testing.assert_close(traced, expected, rtol=1e-3, atol=1e-5)
    assert given == [{"triton.cudagraphs": True, "eager_numerics.division_rounding": True}] * 2

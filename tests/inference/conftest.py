from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from pipeline.inference.codec import AudioCodec
from pipeline.models.build import build_autoencoder, describe

_NETWORK: dict[str, Any] = {
    "n_filters": 4,
    "n_residual_layers": 2,
    "kernel_size": 3,
    "last_kernel_size": 5,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "compress": 2,
    "true_skip": False,
    "norm": "weight_norm",
    "activation": "ELU",
}
# Decoder order; both lead from 33 bins to 4.
RATIOS = {2: [[4, 2], [2, 1]], 8: [[2, 2], [2, 2], [2, 2]]}


def _describe_tiny(
    *,
    complex_valued: bool,
    time_stride: int,
    pad_mode: str,
    sample_rate_hz: int,
    channels: int,
    **changes: Any,
) -> dict[str, Any]:
    network = _NETWORK | {
        "complex_valued": complex_valued,
        "ratios": RATIOS[time_stride],
        "latent_fbins": 4,
        "pad_mode": pad_mode,
    }
    model = {
        "autoencoder": {
            "pre_transform": {
                "type": "power_norm",
                "config": {"alpha": 0.65, "beta": 1.0},
                "apply_target": True,
            }
        },
        "encoder": {"type": "SEANetEncoder", "config": network | {"dimension": 16} | changes},
        "bottleneck": {"type": "VAEBottleneck", "config": {}},
        "decoder": {"type": "SEANetDecoder", "config": network | {"dimension": 8} | changes},
    }
    stft = {"n_fft": 64, "hop_length": 16, "win_length": 64}
    return describe(model, stft, sample_rate_hz, channels)


def _make_checkpoint(
    path: Path,
    *,
    complex_valued: bool = True,
    time_stride: int = 2,
    pad_mode: str = "reflect",
    sample_rate_hz: int = 16000,
    channels: int = 1,
    **changes: Any,
) -> Path:
    description = _describe_tiny(
        complex_valued=complex_valued,
        time_stride=time_stride,
        pad_mode=pad_mode,
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        **changes,
    )
    torch.manual_seed(0)
    autoencoder = build_autoencoder(description)
    with torch.no_grad():
        for name, weight in autoencoder.named_parameters():
            if "weight" in name:
                weight.mul_(2)  # fresh weights make audio fade away, and errors with it
    state = {f"autoencoder.{name}": value for name, value in autoencoder.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "inference": description, "global_step": 3}, path)
    return path


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Path]:
    """Writes a checkpoint of a tiny random model; keywords choose its kind."""
    return _make_checkpoint


@pytest.fixture
def make_codec(tmp_path: Path) -> Callable[..., AudioCodec]:
    """Makes a codec of a tiny random model; keywords choose its kind."""
    return lambda **choices: AudioCodec.load(_make_checkpoint(tmp_path / "tiny.ckpt", **choices))


def _make_audio(num_samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tones = np.sin(np.arange(num_samples) * (0.05 + 0.02 * np.arange(channels)[:, None]))
    return (0.3 * tones + 0.1 * rng.standard_normal((channels, num_samples))).astype(np.float32)


@pytest.fixture(scope="session")
def make_audio() -> Callable[..., np.ndarray]:
    """Makes tones and noise, (C, S) float32."""
    return _make_audio


@pytest.fixture
def write_audio(tmp_path: Path) -> Callable[..., Path]:
    """Writes tones and noise into a file below `tmp_path`."""

    def write(name: str, num_samples: int, sample_rate_hz: int, channels: int = 1, **options: Any) -> Path:
        path = tmp_path / name
        soundfile.write(path, _make_audio(num_samples, channels).T, sample_rate_hz, **options)
        return path

    return write

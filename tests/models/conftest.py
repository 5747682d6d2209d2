from collections.abc import Callable
from typing import Any

import pytest

from pipeline.dsp.compression import PowerNorm
from pipeline.dsp.stft import Stft
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.models.bottleneck.identity import IdentityBottleneck
from pipeline.models.bottleneck.vae import VAEBottleneck
from pipeline.models.seanet import SEANetDecoder, SEANetEncoder

FULL_SIZE = {
    "ratios": [[4, 2], [1, 2], [4, 2]],
    "n_filters": 8,
    "n_residual_layers": 1,
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "compress": 2,
    "true_skip": False,
    "norm": "weight_norm",
    "activation": "ELU",
    "pad_mode": "reflect",
    "latent_fbins": 64,
}
SMALL = FULL_SIZE | {
    "ratios": [[4, 2], [2, 2]],
    "n_filters": 4,
    "kernel_size": 3,
    "last_kernel_size": 3,
    "latent_fbins": 4,
}


@pytest.fixture
def full_size() -> dict[str, Any]:
    """The guide's large networks, less `dimension` and `complex_valued`."""
    return dict(FULL_SIZE)


@pytest.fixture
def small() -> dict[str, Any]:
    """Networks for 33 bins, less `dimension` and `complex_valued`."""
    return dict(SMALL)


@pytest.fixture
def build_small() -> Callable[..., SpectrogramAutoencoder]:
    """Builds a small autoencoder for any number of audio channels; keywords go to encoder and decoder."""

    def build(
        complex_valued: bool,
        *,
        vae: bool = True,
        channels: int = 2,
        apply_target: bool = True,
        **changes: Any,
    ) -> SpectrogramAutoencoder:
        config = SMALL | {"complex_valued": complex_valued} | changes
        kind = VAEBottleneck if vae else IdentityBottleneck
        bottleneck = kind(dimension=8, complex_valued=complex_valued)
        left = bottleneck.dimension
        return SpectrogramAutoencoder(
            Stft(64, 16, 64),
            PowerNorm(alpha=0.65, beta=0.35),
            SEANetEncoder(**config, dimension=8, in_channels=channels, num_bins=33),
            SEANetDecoder(**config, dimension=left, out_channels=channels, num_bins=33),
            bottleneck,
            apply_target=apply_target,
        )

    return build

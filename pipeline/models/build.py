"""Builds an autoencoder from its plain description, which a configuration gives and a checkpoint carries."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.registry import build
from pipeline.dsp import COMPRESSIONS
from pipeline.dsp.stft import Stft
from pipeline.dsp.stft_settings import StftSettings
from pipeline.models import BOTTLENECKS, DECODERS, ENCODERS
from pipeline.models.autoencoder import SpectrogramAutoencoder

DESCRIPTION_VERSION = 1


def describe(
    model: Mapping[str, Any], stft: Mapping[str, int], sample_rate_hz: int, channels: int
) -> dict[str, Any]:
    """Return all that is needed to rebuild and use an autoencoder, as plain data.

    Args:
        model: the `model` group.
        stft: `n_fft`, `hop_length`, `win_length` in samples.
        sample_rate_hz: of the audio it is trained on.
        channels: audio channels.
    """
    return {
        "version": DESCRIPTION_VERSION,
        "model": dict(model),
        "stft": dict(stft),
        "sample_rate_hz": sample_rate_hz,
        "channels": channels,
    }


def build_autoencoder(description: Mapping[str, Any]) -> SpectrogramAutoencoder:
    """Build the autoencoder of a description, with fresh weights.

    Raises:
        ConfigError: a block does not fit its class; the message leads with the full configuration path.
    """
    model, channels = description["model"], description["channels"]
    settings = StftSettings(**description["stft"])
    bins = settings.num_bins
    pre_transform = dict(model["autoencoder"]["pre_transform"])
    apply_target = pre_transform.pop("apply_target")
    encoder = build(model["encoder"], ENCODERS, "model.encoder", in_channels=channels, num_bins=bins)
    decoder = build(model["decoder"], DECODERS, "model.decoder", out_channels=channels, num_bins=bins)
    return SpectrogramAutoencoder(
        stft=Stft(settings.n_fft, settings.hop_length, settings.win_length),
        compression=build(pre_transform, COMPRESSIONS, "model.autoencoder.pre_transform"),
        encoder=encoder,
        decoder=decoder,
        bottleneck=build(
            model["bottleneck"],
            BOTTLENECKS,
            "model.bottleneck",
            dimension=encoder.dimension,
            complex_valued=encoder.complex_valued,
        ),
        apply_target=apply_target,
    )

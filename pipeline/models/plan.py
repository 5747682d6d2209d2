"""Checks a `model` group as a whole, before anything is built. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.registry import Block, check_block
from pipeline.dsp import COMPRESSIONS
from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import ConfigError
from pipeline.models import BOTTLENECKS, DECODERS, ENCODERS
from pipeline.models.geometry import (
    BOTTLENECK_TRAITS,
    check_fit,
    check_patches,
    check_seanet,
    check_seanet_options,
    frames_per_latent,
)


@dataclass(frozen=True)
class ModelPlan:
    """The checked blocks of a model and what follows from them.

    Attributes:
        pre_transform: compression block.
        encoder: encoder block.
        decoder: decoder block.
        bottleneck: bottleneck block.
        loss_keys: scalars that the bottleneck reports.
        time_stride: STFT frames per latent frame.
        latent_values: real values per latent frame, as the decoder receives them.
    """

    pre_transform: Block
    encoder: Block
    decoder: Block
    bottleneck: Block
    loss_keys: tuple[str, ...]
    time_stride: int
    latent_values: int


def _check_seanet(config: Mapping[str, Any], num_bins: int) -> None:
    keys = ("ratios", "latent_fbins", "n_filters", "compress", "activation", "complex_valued")
    check_seanet(num_bins, *(config[key] for key in keys))
    keys = (
        "compress",
        "n_residual_layers",
        "residual_groups",
        "dimension",
        "sequence_model",
        "sequence_heads",
    )
    options = (config[key] for key in (*keys, "complex_valued"))
    check_seanet_options(config["n_filters"], len(config["ratios"]), *options)


def _check_patches(config: Mapping[str, Any], num_bins: int) -> None:
    keys = ("patch_size", "width", "num_heads", "activation", "complex_valued")
    check_patches(num_bins, *(config[key] for key in keys))


NETWORK_CHECKS: dict[str, Callable[[Mapping[str, Any], int], None]] = {
    "PatchTransformerDecoder": _check_patches,
    "PatchTransformerEncoder": _check_patches,
    "SEANetDecoder": _check_seanet,
    "SEANetEncoder": _check_seanet,
}
"""What refuses the configuration of an encoder or decoder that cannot be built for so many bins."""


def plan_model(model: Mapping[str, Any], stft: StftSettings, where: str = "model") -> ModelPlan:
    """Check every block of a model and that they fit each other and the STFT.

    Args:
        model: the `model` group as plain values.
        stft: the run's STFT.
        where: full configuration path of `model`, for messages.

    Raises:
        ConfigError: an unknown name, a wrong argument, or dimensions that do not fit, with both numbers.
    """
    pre_transform = dict(model["autoencoder"]["pre_transform"])
    pre_transform.pop("apply_target", None)
    blocks = {
        "pre_transform": check_block(pre_transform, COMPRESSIONS, f"{where}.autoencoder.pre_transform"),
        "encoder": check_block(model["encoder"], ENCODERS, f"{where}.encoder"),
        "decoder": check_block(model["decoder"], DECODERS, f"{where}.decoder"),
        "bottleneck": check_block(model["bottleneck"], BOTTLENECKS, f"{where}.bottleneck"),
    }
    for name in ("encoder", "decoder"):
        check = NETWORK_CHECKS[blocks[name].type]
        _located(f"{where}.{name}.config", check, blocks[name].config, stft.num_bins)
    encoder, decoder = blocks["encoder"].config, blocks["decoder"].config
    _located(where, check_fit, encoder, decoder, blocks["bottleneck"].type)
    return ModelPlan(
        **blocks,
        loss_keys=BOTTLENECK_TRAITS[blocks["bottleneck"].type].loss_keys,
        time_stride=frames_per_latent(encoder)[1],
        latent_values=decoder["dimension"] * (2 if decoder["complex_valued"] else 1),
    )


def _located(where: str, check: Callable[..., None], *arguments: Any) -> None:
    try:
        check(*arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None

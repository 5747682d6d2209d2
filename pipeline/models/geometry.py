"""The arithmetic of shapes: do encoder, bottleneck and decoder fit each other and the STFT? Imports no torch.

Ratios are [[frequency, time], ...] in decoder order; an encoder applies them from the last to the first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.layers.activation_names import check_activation

Ratios = Sequence[Sequence[int]]


@dataclass(frozen=True)
class BottleneckTraits:
    """What a bottleneck does to the latent dimension, and the statistics it reports in `loss_info`."""

    dimension_divisor: int
    loss_keys: tuple[str, ...]


BOTTLENECK_TRAITS = {
    "IdentityBottleneck": BottleneckTraits(dimension_divisor=1, loss_keys=()),
    "VAEBottleneck": BottleneckTraits(dimension_divisor=2, loss_keys=("kl",)),
}


def check_ratios(ratios: Ratios) -> None:
    """Refuses ratios that are not pairs.

    Raises:
        ConfigError: An entry has more or fewer than two numbers.
    """
    for place, ratio in enumerate(ratios):
        if len(ratio) != 2:
            raise ConfigError(f"ratios[{place}]={list(ratio)} must be two numbers, [frequency, time]")


def time_stride(ratios: Ratios) -> int:
    """Spectrogram frames per latent frame."""
    return math.prod(time for _, time in ratios)


def frames_per_latent(config: Mapping[str, Any]) -> tuple[str, int]:
    """The key of an encoder's or decoder's configuration that says how many frames a latent frame is, and how many."""
    if "patch_size" in config:
        return "patch_size", config["patch_size"][1]
    check_ratios(config["ratios"])
    return "ratios", time_stride(config["ratios"])


def frequency_path(num_bins: int, ratios: Ratios) -> list[int]:
    """Bins before the encoder's first level and after each level; a stride drops the remainder."""
    path = [num_bins]
    for frequency, _ in reversed(ratios):
        path.append(path[-1] // frequency)
    return path


def check_frequency(num_bins: int, ratios: Ratios, latent_fbins: int) -> None:
    """Refuses a number of latent bins that the ratios do not lead to.

    Raises:
        ConfigError: `latent_fbins` differs from the end of the frequency path.
    """
    check_ratios(ratios)
    path = frequency_path(num_bins, ratios)
    if path[-1] != latent_fbins or latent_fbins < 1:
        steps = " -> ".join(map(str, path))
        raise ConfigError(
            f"latent_fbins={latent_fbins} does not fit: {num_bins} STFT bins lead to {path[-1]} ({steps})"
        )


def check_seanet(
    num_bins: int,
    ratios: Ratios,
    latent_fbins: int,
    n_filters: int,
    compress: int,
    activation: str,
    complex_valued: bool,
) -> None:
    """Refuses a SEANet encoder or decoder that cannot be built.

    Raises:
        ConfigError: The frequency path, the residual width or the activation is wrong; the message starts
            with the parameter's name and holds both numbers.
    """
    check_frequency(num_bins, ratios, latent_fbins)
    if compress > n_filters:
        raise ConfigError(f"compress={compress} divides n_filters={n_filters}, so it must not exceed it")
    check_activation(activation, complex_valued)


def check_seanet_options(
    n_filters: int,
    num_levels: int,
    compress: int,
    n_residual_layers: int,
    residual_groups: int,
    dimension: int,
    sequence_model: str,
    sequence_heads: int,
    complex_valued: bool,
) -> None:
    """Refuses groups that do not divide their channels and heads that do not divide the latents.

    Raises:
        ConfigError: The message starts with the parameter's name and holds both numbers.
    """
    if residual_groups > 1 and not n_residual_layers:
        raise ConfigError(f"residual_groups={residual_groups} needs n_residual_layers of at least 1")
    for level in range(num_levels if n_residual_layers else 0):
        channels = n_filters * 2**level
        if channels % residual_groups or channels // compress % residual_groups:
            raise ConfigError(
                f"residual_groups={residual_groups} must divide the channels of every residual unit; one has "
                f"{channels} (n_filters times a power of 2) and inside {channels // compress} (compress={compress})"
            )
    if sequence_model == "transformer":
        check_heads("sequence_heads", sequence_heads, "dimension", dimension, complex_valued)


def check_patches(
    num_bins: int,
    patch_size: Sequence[int],
    width: int,
    num_heads: int,
    activation: str,
    complex_valued: bool,
) -> None:
    """Refuses a patch transformer that cannot be built.

    Raises:
        ConfigError: The patch is no pair or higher than the spectrogram, the heads do not divide the width, or the
            activation is wrong; the message starts with the parameter's name.
    """
    if len(patch_size) != 2:
        raise ConfigError(f"patch_size={list(patch_size)} must be two numbers, [frequency, time]")
    if patch_size[0] > num_bins:
        raise ConfigError(f"patch_size={list(patch_size)} has more bins than the STFT, {num_bins}")
    check_heads("num_heads", num_heads, "width", width, complex_valued)
    check_activation(activation, complex_valued)


def check_heads(name: str, heads: int, width_name: str, width: int, complex_valued: bool) -> None:
    """Refuses attention heads that do not divide the channels into whole pairs.

    Raises:
        ConfigError: With both numbers.
    """
    if width % heads:
        raise ConfigError(f"{name}={heads} must divide {width_name}={width}")
    if not complex_valued and width // heads % 2:
        raise ConfigError(
            f"{name}={heads} leaves {width // heads} of {width_name}={width} a head; it must be even"
        )


def bottleneck_dimension(bottleneck_type: str, dimension: int) -> int:
    """The latent dimension after a bottleneck, in the encoder's own (real or complex) channels.

    Raises:
        ConfigError: The dimension is not divisible as the bottleneck needs it.
    """
    divisor = BOTTLENECK_TRAITS[bottleneck_type].dimension_divisor
    if dimension % divisor:
        raise ConfigError(
            f"encoder.config.dimension={dimension} must be divisible by {divisor} for {bottleneck_type}"
        )
    return dimension // divisor


def check_fit(encoder: Mapping[str, Any], decoder: Mapping[str, Any], bottleneck_type: str) -> None:
    """Refuses an encoder and a decoder that do not meet in the bottleneck.

    Args:
        encoder: The encoder's configuration: `dimension`, `complex_valued`, and `ratios` or `patch_size`.
        decoder: The decoder's.
        bottleneck_type: A name of `BOTTLENECK_TRAITS`.

    Raises:
        ConfigError: With the two values that disagree, as keys relative to `model`.
    """
    if encoder["complex_valued"] != decoder["complex_valued"]:
        raise ConfigError(
            f"decoder.config.complex_valued={_yaml(decoder['complex_valued'])} but "
            f"encoder.config.complex_valued={_yaml(encoder['complex_valued'])}; both must be the same"
        )
    (down_key, down), (up_key, up) = frames_per_latent(encoder), frames_per_latent(decoder)
    if down != up:
        raise ConfigError(
            f"decoder.config.{up_key} multiply time by {up}, but encoder.config.{down_key} divide it by {down}"
        )
    expected = bottleneck_dimension(bottleneck_type, encoder["dimension"])
    if decoder["dimension"] != expected:
        raise ConfigError(
            f"decoder.config.dimension={decoder['dimension']} does not fit: "
            f"encoder.config.dimension={encoder['dimension']} leaves {bottleneck_type} as {expected}"
        )


def _yaml(value: bool) -> str:
    return "true" if value else "false"

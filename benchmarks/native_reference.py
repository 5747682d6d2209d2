"""The SEANet autoencoder as one writes it first, to compare with: native complex tensors, eager, one layer at a time.

Complex networks have complex parameters, the library's complex convolutions, its reflect padding and a weight norm of
complex filters; real ones are the library's layers. Modules and parameters are named as in `pipeline.models`, so that
`load_ours` copies weights, and gradients can be compared by name. What the SEANet files of `conf/model` do not use is
refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.native_layers import Conv, Style, Unit, UpConv
from pipeline.errors import ConfigError
from pipeline.layers import ELEMENTWISE_ACTIVATIONS
from pipeline.models.bottleneck.vae import SMALLEST_SIGMA
from pipeline.models.geometry import frequency_path, time_stride

PLAIN = {
    "causal": (False,),
    "residual_groups": (1,),
    "double_final_conv": (False,),
    "sequence_model": ("none",),
    "norm": ("none", "weight_norm"),
    "activation": ("CReLU", *ELEMENTWISE_ACTIVATIONS),
}
"""What the reference can do, by argument of `SEANetEncoder`."""

COMPLEX_OF = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class Network(nn.Module):
    """What encoder and decoder share; `config` is that of `SEANetEncoder` in the configuration."""

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype) -> None:
        super().__init__()
        for key, choices in PLAIN.items():
            if key in config and config[key] not in choices:
                raise ConfigError(
                    f"{key}={config[key]!r}: the native reference knows {', '.join(map(str, choices))}"
                )
        dtype = COMPLEX_OF[dtype] if config["complex_valued"] else dtype
        self.config = config
        self.style = Style(dtype, config["norm"], config["pad_mode"], config["activation"])

    def units(self, channels: int) -> list[nn.Module]:
        """The residual units of a level."""
        config = self.config
        kernel, skip = config["residual_kernel_size"], config["true_skip"]
        return [
            Unit(
                channels,
                channels // config["compress"],
                kernel,
                config["dilation_base"] ** depth,
                skip,
                self.style,
            )
            for depth in range(config["n_residual_layers"])
        ]

    def audio_channels(self, count: int) -> int:
        """Network channels of so many audio channels."""
        return count if self.style.dtype.is_complex else 2 * count


class Encoder(Network):
    """Spectrograms (B, C, F, T), complex or with parts as channels, to latents (B, dimension, L)."""

    def __init__(self, config: Mapping[str, Any], in_channels: int, dtype: torch.dtype) -> None:
        super().__init__(config, dtype)
        channels, style = config["n_filters"], self.style
        layers: list[nn.Module] = [
            style.conv((self.audio_channels(in_channels), channels), config["kernel_size"])
        ]
        for frequency, time in reversed(config["ratios"]):
            layers += [*self.units(channels), style.activate()]
            layers.append(style.conv((channels, 2 * channels), 0, stride=(frequency, time)))
            channels *= 2
        self.levels = nn.Sequential(*layers, style.activate())
        packed, taps = channels * config["latent_fbins"], config["last_kernel_size"]
        self.projection = Conv((packed, config["dimension"]), (taps,), (1,), (1,), style)

    def forward(self, features: Tensor) -> Tensor:
        """Maps a spectrogram whose frames are a multiple of the stride to latents."""
        return self.projection(self.levels(features).flatten(1, 2))


class Decoder(Network):
    """Latents (B, dimension, L) to spectrograms (B, C, F, T), complex or with parts as channels."""

    def __init__(
        self, config: Mapping[str, Any], out_channels: int, num_bins: int, dtype: torch.dtype
    ) -> None:
        super().__init__(config, dtype)
        ratios, style = config["ratios"], self.style
        channels, taps = config["n_filters"] * 2 ** len(ratios), config["kernel_size"]
        packed = channels * config["latent_fbins"]
        self.projection = Conv((config["dimension"], packed), (taps,), (1,), (1,), style)
        layers: list[nn.Module] = []
        bins = frequency_path(num_bins, ratios)[::-1]
        for (frequency, time), bins_in, bins_out in zip(ratios, bins[:-1], bins[1:], strict=True):
            extra = bins_out - bins_in * frequency
            layers += [style.activate(), UpConv((channels, channels // 2), (frequency, time), extra, style)]
            channels //= 2
            layers += self.units(channels)
        last = style.conv((channels, self.audio_channels(out_channels)), config["last_kernel_size"])
        self.levels = nn.Sequential(*layers, style.activate(), last)

    def forward(self, latents: Tensor) -> Tensor:
        """Maps latents to a spectrogram."""
        features = self.projection(latents)
        return self.levels(features.unflatten(1, (-1, self.config["latent_fbins"])))


@dataclass(frozen=True)
class Output:
    """One pass: compressed spectrograms of estimate and reference, and the divergence of a VAE."""

    estimate: Tensor
    reference: Tensor
    kl: Tensor | None

    def loss(self, weights: Mapping[str, float]) -> Tensor:
        """Return the weighted sum of `stft_mse` and, with a VAE, `kl`."""
        difference = self.estimate - self.reference
        if difference.is_complex():
            squared = torch.view_as_real(difference).square().sum(-1).mean()
        else:
            squared = 2 * difference.square().mean()  # per complex bin
        total = weights["stft_mse"] * squared
        return total if self.kl is None else total + weights["kl"] * self.kl


class NativeAutoencoder(nn.Module):
    """Waveform to loss, as `pipeline.models.autoencoder` defines it.

    Args:
        description: of `pipeline.models.build.describe`.
        dtype: float32 or float64; complex networks have the complex dtype of this precision.

    Raises:
        ConfigError: the description has something that the reference cannot do.
    """

    window: Tensor

    def __init__(self, description: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        model, channels = description["model"], description["channels"]
        transform = model["autoencoder"]["pre_transform"]
        kinds = (
            model["encoder"]["type"],
            model["decoder"]["type"],
            transform["type"],
            transform["apply_target"],
        )
        if kinds != ("SEANetEncoder", "SEANetDecoder", "power_norm", True):
            raise ConfigError(f"the native reference is a SEANet with a power_norm target, not {kinds}")
        self.alpha, self.beta = transform["config"]["alpha"], transform["config"]["beta"]
        self.eps = transform["config"].get("eps", 1e-8)
        self.stft = dict(description["stft"])
        self.is_vae = {"IdentityBottleneck": False, "VAEBottleneck": True}[model["bottleneck"]["type"]]
        window = torch.hann_window(self.stft["win_length"], dtype=torch.float64)
        window = window / window.square().sum().sqrt()
        self.register_buffer("window", window.to(dtype), persistent=False)
        encoder, decoder = model["encoder"]["config"], model["decoder"]["config"]
        self.time_stride = time_stride(encoder["ratios"])
        self.encoder = Encoder(encoder, channels, dtype)
        self.decoder = Decoder(decoder, channels, self.stft["n_fft"] // 2 + 1, dtype)

    def forward(self, waveform: Tensor, noise: Callable[[torch.Size], Tensor] | None = None) -> Output:
        """Reconstructs (B, C, S), S a whole number of hops; `noise` gives a VAE's stacked standard normal values."""
        reference = self._analyse(waveform)
        frames = reference.shape[-1]
        latents = self.encoder(functional.pad(reference, (0, -frames % self.time_stride)))
        kl = None
        if self.is_vae:
            latents, kl = self._sample(latents, noise)
        return Output(self.decoder(latents)[..., :frames], reference, kl)

    def _analyse(self, waveform: Tensor) -> Tensor:
        spectrogram = torch.stft(
            waveform.flatten(0, 1), **self.stft, window=self.window, pad_mode="reflect", return_complex=True
        ).unflatten(0, waveform.shape[:2])
        spectrogram = spectrogram * (self.beta * spectrogram.abs().clamp_min(self.eps) ** (self.alpha - 1))
        if self.encoder.style.dtype.is_complex:
            return spectrogram
        return torch.cat((spectrogram.real, spectrogram.imag), 1)

    def _sample(self, latents: Tensor, noise: Callable[[torch.Size], Tensor] | None) -> tuple[Tensor, Tensor]:
        parts = (latents.real, latents.imag) if latents.is_complex() else (latents,)
        mean, scale = (
            torch.cat(halves, 1) for halves in zip(*(part.chunk(2, 1) for part in parts), strict=True)
        )
        sigma = functional.softplus(scale) + SMALLEST_SIGMA
        kl = (mean.square() + sigma.square() - 2 * sigma.log() - 1).sum(1).mean()
        drawn = torch.randn_like(mean) if noise is None else noise(mean.shape).to(mean)
        sampled = mean + sigma * drawn
        return (torch.complex(*sampled.chunk(2, 1)) if latents.is_complex() else sampled), kl


def load_ours(native: NativeAutoencoder, ours: nn.Module) -> None:
    """Copy the weights of a `SpectrogramAutoencoder` of the same description."""
    own = native.state_dict()
    native.load_state_dict({name: _native(value, own[name]) for name, value in ours.state_dict().items()})


def _native(value: Tensor, like: Tensor) -> Tensor:
    """A parameter of ours in the layout of the native one: pairs to complex numbers."""
    if like.is_complex():
        return torch.complex(*value.unbind(0))
    return value.squeeze(0) if value.dim() > like.dim() else value  # lengths of filters have no parts


def as_ours(value: Tensor, like: Tensor) -> Tensor:
    """A native parameter or gradient in the layout of our parameter `like`."""
    if value.is_complex():
        return torch.stack((value.real, value.imag))
    return value.unsqueeze(0) if value.dim() < like.dim() else value

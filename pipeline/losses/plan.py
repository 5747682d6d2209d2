"""What `trainer.loss_config` asks for: which losses are active, with which weights. Imports no torch."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.config.registry import check_arguments, suggest
from pipeline.errors import ConfigError
from pipeline.losses import LOSSES
from pipeline.losses.resolutions import mel_resolutions, stft_resolutions
from pipeline.losses.weight_schedule import WeightSchedule

ROOT = "trainer.loss_config"
RECONSTRUCTION_FAMILIES = tuple(family for family in LOSSES if family != "bottleneck")

_SIZES = ("fft_sizes", "hop_sizes", "win_lengths", "n_mels")
_STEREO = ("mrstft_mid_side", "l1_mid_side")
_CHANGES = ("warmup", "decay")  # of weights

# Rules between the arguments of one loss that its constructor applies too, here for a refusal without torch.
_ARITHMETIC: dict[tuple[str, str], tuple[Callable[..., object], tuple[str, ...]]] = {
    ("spectral", "mrstft"): (stft_resolutions, _SIZES),
    ("spectral", "mrstft_mid_side"): (stft_resolutions, _SIZES),
    ("mel", "mrmel"): (mel_resolutions, ("fft_sizes", "n_mels")),
}


class PlannedLoss(NamedTuple):
    """One active loss; `config` holds every argument that YAML may set, defaults filled in."""

    family: str
    name: str
    config: dict[str, Any]
    weight: float
    warmup: int = 0
    decay: float = 1.0

    @property
    def schedule(self) -> WeightSchedule:
        """Its weight over the steps of a run."""
        return WeightSchedule(self.weight, self.warmup, self.decay)


@dataclass(frozen=True)
class LossPlan:
    """The losses of a run.

    Attributes:
        active: losses with a positive weight, in the order of the configuration.
        disabled: `family/name` of those with weight 0; they are never built.
        notes: one line each, to be printed at the start.
    """

    active: tuple[PlannedLoss, ...]
    disabled: tuple[str, ...]
    notes: tuple[str, ...]


def plan_losses(
    loss_config: Mapping[str, Any],
    bottleneck_loss_keys: Collection[str],
    where: str = ROOT,
    *,
    channels: int | None = None,
    is_encoder_frozen: bool = False,
) -> LossPlan:
    """Check `trainer.loss_config` and list what it asks for.

    Args:
        loss_config: `<family>.<loss>.config`, `<family>.weights.<loss>`, and for a weight that changes
            `<family>.warmup.<loss>` and `<family>.decay.<loss>`.
        bottleneck_loss_keys: values that the chosen bottleneck reports, `("kl",)` for a VAE.
        where: full configuration path of `loss_config`, for messages.
        channels: audio channels of the run; None leaves out what depends on them.
        is_encoder_frozen: whether what the bottleneck reports can change nothing.

    Raises:
        ConfigError: an unknown family, loss or argument; a weight that is missing, negative, no number or
            without its loss; all weights 0; a stereo loss without stereo. The message names the full path of the key.
    """
    active: list[PlannedLoss] = []
    disabled: list[str] = []
    for family, block in loss_config.items():
        if family not in LOSSES:
            raise ConfigError(f"{where}.{family}: unknown loss family; {suggest(family, LOSSES)}")
        for loss in _plan_family(family, _mapping(block, f"{where}.{family}"), f"{where}.{family}"):
            if loss.weight > 0:
                active.append(loss)
            else:
                disabled.append(f"{loss.family}/{loss.name}")
    notes = []
    for loss in [loss for loss in active if loss.family == "bottleneck"]:
        if loss.name in bottleneck_loss_keys and not is_encoder_frozen:
            continue
        active.remove(loss)
        frozen = "trainer.train_only=decoder leaves encoder and bottleneck as they are"
        reason = frozen if is_encoder_frozen else f"the bottleneck reports no {loss.name}"
        notes.append(f"{where}.bottleneck.weights.{loss.name} is ignored: {reason}")
    if not active:
        raise ConfigError(f"{where}: no loss is active; give at least one a positive weight")
    _check_channels(active, channels, where)
    notes += _missing_notes(active, disabled, () if is_encoder_frozen else bottleneck_loss_keys, where)
    return LossPlan(tuple(active), tuple(disabled), tuple(notes))


def _check_channels(active: Iterable[PlannedLoss], channels: int | None, where: str) -> None:
    for loss in active:
        if loss.name in _STEREO and channels not in (None, 2):
            raise ConfigError(
                f"{where}.{loss.family}.{loss.name}: compares mid and side of stereo, and "
                f"data.channels={channels}; valid: {where}.{loss.family}.weights.{loss.name}=0, or data.channels=2"
            )


def _missing_notes(
    active: list[PlannedLoss], disabled: list[str], bottleneck_loss_keys: Collection[str], where: str
) -> list[str]:
    planned = {f"{loss.family}/{loss.name}" for loss in active} | set(disabled)
    notes = [
        f"the bottleneck reports {key}, but {where}.bottleneck.weights.{key} is not given: it is left out"
        for key in bottleneck_loss_keys
        if f"bottleneck/{key}" not in planned
    ]
    if not any(loss.family in RECONSTRUCTION_FAMILIES for loss in active):
        notes.append("no reconstruction loss is active: the decoder is not trained")
    return notes


def _plan_family(family: str, block: Mapping[str, Any], where: str) -> list[PlannedLoss]:
    """Return the losses of one family in the order of its entries, those of weight 0 included."""
    known = LOSSES[family]
    for key in block:
        if key not in ("weights", *_CHANGES) and key not in known:
            choices = suggest(key, [*known, "weights", *_CHANGES])
            raise ConfigError(f"{where}.{key}: unknown loss; {_elsewhere(key)}{choices}")
    weights = _weights(family, _mapping(block.get("weights"), f"{where}.weights"), f"{where}.weights")
    changes = _weight_changes(block, weights, where)
    entries = {name: entry for name, entry in block.items() if name not in ("weights", *_CHANGES)}
    losses = []
    for name, entry in entries.items():
        config = _config(family, name, entry, f"{where}.{name}")
        if name not in weights:
            raise ConfigError(f"{where}.weights.{name}: missing; every loss needs a weight (0 disables it)")
        losses.append(PlannedLoss(family, name, config, weights[name], **changes[name]))
    for name, weight in weights.items():
        if name in entries:
            continue
        if weight > 0 and family != "bottleneck":
            raise ConfigError(f"{where}.weights.{name}={weight}: not declared; add {where}.{name}={{}}")
        losses.append(PlannedLoss(family, name, {}, weight, **changes[name]))
    return losses


def _weight_changes(
    block: Mapping[str, Any], weights: Mapping[str, float], where: str
) -> dict[str, dict[str, Any]]:
    """Return `warmup` and `decay` of each weight, where given."""
    found: dict[str, dict[str, Any]] = {name: {} for name in weights}
    for change in _CHANGES:
        for name, value in _mapping(block.get(change), f"{where}.{change}").items():
            path = f"{where}.{change}.{name}"
            if name not in weights:
                raise ConfigError(f"{path}: no weight of this name to change; {suggest(name, weights)}")
            if change == "warmup" and (type(value) is not int or value < 0):
                raise ConfigError(f"{path}={value!r}: not a whole number of optimiser steps, 0 or more")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if change == "decay" and not (number and 0 < value <= 1):
                raise ConfigError(f"{path}={value!r}: not a factor per optimiser step above 0, at most 1")
            found[name][change] = value if change == "warmup" else float(value)
    return found


def _weights(family: str, weights: Mapping[str, Any], where: str) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in LOSSES[family]:
            choices = suggest(name, LOSSES[family])
            raise ConfigError(f"{where}.{name}: unknown loss; {_elsewhere(name)}{choices}")
        number = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
        if not number or weight < 0:
            raise ConfigError(f"{where}.{name}={weight!r}: not a number of at least 0 (0 disables the loss)")
    return {name: float(weight) for name, weight in weights.items()}


def _config(family: str, name: str, entry: Any, where: str) -> dict[str, Any]:
    entry = _mapping(entry, where)
    for key in entry:
        if key != "config":
            raise ConfigError(f"{where}.{key}: unknown key; valid: config, which holds the arguments")
    where = f"{where}.config"
    config = check_arguments(LOSSES[family][name], _mapping(entry.get("config"), where), where)
    if (family, name) in _ARITHMETIC:
        check, arguments = _ARITHMETIC[family, name]
        try:
            check(*(config[argument] for argument in arguments))
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None
    return config


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Read an empty YAML value as an empty block."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}={value!r}: a block of keys is expected here")
    return value


def _elsewhere(name: str) -> str:
    families = [family for family, losses in LOSSES.items() if name in losses]
    return f"{name} belongs to {ROOT}.{families[0]}. " if families else ""

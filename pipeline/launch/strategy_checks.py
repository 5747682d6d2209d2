"""What `trainer.strategy` cannot do, refused with the remedy before a run exists. Imports no torch."""

import importlib.util
from collections.abc import Iterable

from pipeline.config.compose import shipped_trainer
from pipeline.config.deepspeed_schema import DeepSpeedSettings
from pipeline.config.schema import Config
from pipeline.config.trainer_schema import TrainerSettings
from pipeline.errors import ConfigError

_PRECISIONS = ("32-true", "bf16-mixed")
_NO_PRECISION = {
    "16-mixed": "DeepSpeed casts the weights to half precision and scales the loss by rules of its own",
    "64-true": "DeepSpeed keeps its weights in single precision",
}
# Every other class of torch.optim updates each weight by its own gradient and history alone, so that a rank may
# hold any piece of all weights laid end to end. tests/launch/test_strategy_checks.py tries each.
UNSHARDED_OPTIMIZERS = {
    "Adafactor": "keeps means over the rows and columns of a weight, which a shard does not have",
    "Adagrad": "is built anew by DeepSpeed, and the scheduler would set the learning rate of the one before",
    "LBFGS": "repeats the whole step and decides by its loss, which no rank has alone",
}
_REMEDY = "or use trainer.strategy=ddp"


def check(config: Config, *, has_torch: bool = True) -> None:
    """Refuse options that the strategy cannot honour.

    Args:
        config: settled tree.
        has_torch: False for a run that trains with packages that are not installed here.

    Raises:
        ConfigError: names both keys and what to set.
    """
    if config.trainer.strategy != "deepspeed":
        return
    if has_torch and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "trainer.strategy=deepspeed: the package deepspeed is not installed; `make env` installs it, "
            f"{_REMEDY}"
        )
    _check_arithmetic(config.trainer)
    _check_optimizer(config.trainer)


def _check_arithmetic(trainer: TrainerSettings) -> None:
    lightning = trainer.trainer
    if trainer.precision in _NO_PRECISION:
        raise ConfigError(
            f"trainer.precision={trainer.precision}: not with trainer.strategy=deepspeed: "
            f"{_NO_PRECISION[trainer.precision]}; valid: {', '.join(_PRECISIONS)}, {_REMEDY}"
        )
    if lightning.gradient_clip_algorithm == "value" and lightning.gradient_clip_val:
        raise ConfigError(
            "trainer.trainer.gradient_clip_algorithm=value: trainer.strategy=deepspeed clips by norm only; "
            f"valid: norm, trainer.trainer.gradient_clip_val=0 for no clipping, {_REMEDY}"
        )
    if lightning.sync_batchnorm:
        raise ConfigError(
            "trainer.trainer.sync_batchnorm=true: trainer.strategy=deepspeed has no place for it, and the layers of "
            "these models have no statistics over the batch; valid: false"
        )


def _check_optimizer(trainer: TrainerSettings) -> None:
    name = trainer.optimizer.type
    if name in UNSHARDED_OPTIMIZERS:
        raise ConfigError(
            f"trainer.optimizer.type={name}: trainer.strategy=deepspeed gives each rank a piece of all weights laid "
            f"end to end, and {name} {UNSHARDED_OPTIMIZERS[name]}; valid: AdamW and others that treat each weight "
            f"alone, {_REMEDY}"
        )


def notes(config: Config, given: Iterable[str], world_size: int) -> list[str]:
    """Say what has no effect.

    Args:
        config: checked configuration.
        given: dotted keys that the user wrote.
        world_size: processes over all nodes.
    """
    trainer = config.trainer
    if trainer.strategy == "deepspeed":
        alone = "trainer.strategy=deepspeed: one process has nothing to share; auto does the same work faster"
        return [alone] if world_size == 1 else []
    shipped = DeepSpeedSettings.model_validate(shipped_trainer()["deepspeed"])
    written = {key for key in given if key.startswith("trainer.deepspeed.")}
    changed = {
        f"trainer.deepspeed.{name}"
        for name in DeepSpeedSettings.model_fields
        if getattr(trainer.deepspeed, name) != getattr(shipped, name)
    }
    return [
        f"{key} has no effect: trainer.strategy={trainer.strategy}; it belongs to trainer.strategy=deepspeed"
        for key in sorted(written | changed)
    ]

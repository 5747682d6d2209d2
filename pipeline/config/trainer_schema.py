"""Schema of the `trainer` group; `trainer.trainer` holds our own keys and every keyword of Lightning's Trainer."""

import re
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from pipeline.config.deepspeed_schema import DeepSpeedSettings
from pipeline.config.section import PathText, Section

STRATEGIES = ("auto", "ddp", "deepspeed")
LEAST_WATCHDOG_TIMEOUT_S = 20
LOGGERS = ("csv", "tensorboard", "wandb", "none")

# Keywords of Lightning's Trainer that another key of ours decides.
_OWNERS = {
    "strategy": "set it with trainer.strategy",
    "devices": "set it with trainer.num_gpus (GPUs per node) or trainer.num_processes (CPU)",
    "accelerator": "set it with trainer.num_gpus (0 is the CPU)",
    "num_nodes": "set it with trainer.num_nodes",
    "precision": "set it with trainer.precision",
    "logger": "set it with trainer.logger",
    "callbacks": "the program owns the callbacks; their settings are keys of trainer.trainer",
    "plugins": "the program owns the plugins; see trainer.strategy and trainer.precision",
    "profiler": "set it with trainer.trainer.profile and trainer.trainer.profiler_dir",
    "default_root_dir": "set it with run.dir",
    "use_distributed_sampler": "the program owns the sample order, equal on any number of processes",
    "reload_dataloaders_every_n_epochs": "the program owns the loaders; reloading would break an exact resume",
    "enable_checkpointing": "set it with trainer.trainer.save_top_k (0 keeps only last.ckpt)",
    "barebones": "it contradicts checkpoints and logging; switch off what you do not want one by one",
    "model_registry": "uploading to Lightning's registry is not part of this project",
    "enable_autolog_hparams": "the whole configuration is always logged",
    "limit_test_batches": "there is no test loop; use trainer.trainer.limit_val_batches",
    "limit_predict_batches": "there is no predict loop; use python -m pipeline.inference",
}
_DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
OWNED_ELSEWHERE = {f"trainer.trainer.{name}": f"{reason}." for name, reason in _OWNERS.items()}


def _seconds(duration: str | dict[str, int]) -> float:
    if isinstance(duration, str):
        duration = dict(zip(_UNITS[1:], map(int, duration.split(":")), strict=True))
    return timedelta(**duration).total_seconds()


class OptimizerSettings(Section):
    """A torch optimiser by class name; `config` is exactly its keyword arguments."""

    type: str
    config: dict[str, Any]


class SchedulerSettings(Section):
    """A learning-rate scheduler by class name; `interval` says what one of its steps is."""

    type: str
    config: dict[str, Any]
    enabled: bool
    interval: Literal["step", "epoch"] | None
    monitor: str | None


class LossBalancerSettings(Section):
    """Weights of the reconstruction losses as shares of the gradient; see `pipeline.losses.balancer`."""

    enabled: bool
    total_norm: PositiveFloat
    ema_decay: float = Field(ge=0, lt=1)


class WeightAverageSettings(Section):
    """A running average of the weights, which validation, export and `run.init_from` use."""

    enabled: bool
    decay: float = Field(gt=0, lt=1)
    warmup: bool


class FormSettings(Section):
    """How the same mathematics is computed; `auto` follows the device, see `pipeline.launch.form`."""

    compile: Literal["auto"] | bool
    fold: Literal["auto"] | bool
    cuda_graphs: Literal["auto"] | bool
    fused_optimizer: Literal["auto"] | bool


class WandbSettings(Section):
    """Weights & Biases; without an API key the run is logged offline."""

    use_wandb: bool
    project: str
    name: str | None


class LightningSettings(Section):
    """Our own keys first, then the keywords of Lightning's Trainer with Lightning's meaning."""

    save_top_k: int = Field(ge=-1)
    save_every_n_epochs: PositiveInt
    save_every_n_minutes: PositiveFloat | None
    monitor: str
    ckpt_dir: PathText | None
    deterministic: bool | None
    strict_deterministic: bool
    log_model_structure: bool
    profile: bool
    profiler_dir: PathText | None
    num_demos: NonNegativeInt
    demo_seconds: PositiveFloat

    max_epochs: int | None = Field(ge=-1)
    min_epochs: NonNegativeInt | None
    max_steps: int = Field(ge=-1)
    min_steps: NonNegativeInt | None
    max_time: str | dict[str, int] | None
    gradient_clip_val: NonNegativeFloat | None  # 0 switches clipping off
    gradient_clip_algorithm: Literal["norm", "value"] | None
    accumulate_grad_batches: PositiveInt
    check_val_every_n_epoch: PositiveInt | None
    val_check_interval: int | float | str | dict[str, int] | None
    num_sanity_val_steps: int | None = Field(ge=-1)
    log_every_n_steps: PositiveInt
    limit_train_batches: PositiveInt | float | None
    limit_val_batches: NonNegativeInt | float | None
    overfit_batches: NonNegativeInt | float
    fast_dev_run: bool | NonNegativeInt
    enable_progress_bar: bool
    enable_model_summary: bool
    benchmark: bool | None
    detect_anomaly: bool
    inference_mode: bool
    sync_batchnorm: bool

    @field_validator("max_time", "val_check_interval")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        """A text is a duration; a block of units is one too."""
        if isinstance(value, str) and not _DURATION.fullmatch(value):
            raise ValueError("a duration is written DD:HH:MM:SS, or as a block like {hours: 1, minutes: 30}")
        if isinstance(value, dict) and not (value and set(value) <= set(_UNITS)):
            raise ValueError(f"no duration; valid units: {', '.join(_UNITS)}")
        if isinstance(value, dict) and min(value.values()) < 0:
            raise ValueError("a duration has no negative parts")
        if isinstance(value, str | dict):
            try:
                _seconds(value)
            except OverflowError:
                raise ValueError("too long for a duration; valid: up to 999999999 days") from None
        return value

    @field_validator("limit_train_batches", "val_check_interval")
    @classmethod
    def _not_zero(cls, value: Any) -> Any:
        if isinstance(value, int | float) and value <= 0:
            raise ValueError("Input should be greater than 0, or null")
        return value

    @field_validator("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval")
    @classmethod
    def _share(cls, value: Any) -> Any:
        """A float is a share of the batches."""
        if isinstance(value, float) and not 0.0 <= value <= 1.0:
            raise ValueError(
                "a whole number counts batches; a decimal number is a share and lies in 0.0 to 1.0"
            )
        return value

    @property
    def max_time_s(self) -> float | None:
        """`max_time` in seconds."""
        return None if self.max_time is None else _seconds(self.max_time)


class TrainerSettings(Section):
    """Optimisation, logging and runtime."""

    seed: NonNegativeInt = Field(lt=2**32)
    strategy: str
    deepspeed: DeepSpeedSettings
    num_gpus: NonNegativeInt | Literal["auto"]
    num_nodes: PositiveInt
    num_processes: PositiveInt
    start_timeout_s: PositiveFloat
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"]
    form: FormSettings
    deterministic: bool
    global_batch_size: PositiveInt | None
    watchdog_timeout_s: PositiveFloat | None
    optimizer: OptimizerSettings
    scheduler: SchedulerSettings
    loss_config: dict[str, Any]
    loss_balancer: LossBalancerSettings
    ema: WeightAverageSettings
    train_only: Literal["decoder"] | None
    eval_loss_config: dict[str, dict[str, Any] | None]
    logger: str | list[str] | None
    wandb: WandbSettings
    trainer: LightningSettings

    @field_validator("strategy")
    @classmethod
    def _strategy(cls, value: str) -> str:
        if value not in STRATEGIES:
            raise ValueError(f"this strategy is not built; valid: {', '.join(STRATEGIES)}")
        return value

    @field_validator("watchdog_timeout_s")
    @classmethod
    def _watchdog_timeout_s(cls, value: float | None) -> float | None:
        if value is not None and value < LEAST_WATCHDOG_TIMEOUT_S:
            raise ValueError(
                f"ending a job takes 10 s of it; valid: {LEAST_WATCHDOG_TIMEOUT_S} or more (and more than any batch, "
                "save or validation batch takes), or null for no watchdog"
            )
        return value

    @field_validator("logger")
    @classmethod
    def _logger(cls, value: str | list[str] | None) -> str | list[str] | None:
        names = [value] if isinstance(value, str) else value or []
        for name in names:
            if name not in LOGGERS:
                raise ValueError(f"unknown logger {name!r}; valid: {', '.join(LOGGERS)}, or a list of them")
        if len(names) > 1 and "none" in names:
            raise ValueError("none cannot be combined with other loggers")
        return value

    @property
    def logger_names(self) -> tuple[str, ...]:
        """The loggers asked for, `use_wandb` included, without `none`."""
        names = [self.logger] if isinstance(self.logger, str) else list(self.logger or [])
        if self.wandb.use_wandb:
            names.append("wandb")
        return tuple(dict.fromkeys(name for name in names if name != "none"))

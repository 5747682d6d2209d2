"""Every refusal that can be made before a run exists: first those that need no torch, then torch's own names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.compose import inherited_keys, shipped_trainer
from pipeline.config.registry import parameters, suggest
from pipeline.config.schema import Config
from pipeline.config.trainer_schema import OptimizerSettings, SchedulerSettings
from pipeline.dsp import COMPRESSIONS
from pipeline.dsp.stft_settings import StftSettings
from pipeline.errors import ConfigError
from pipeline.evaluation.plan import plan_metrics
from pipeline.launch import resources, strategy_checks, training_checks
from pipeline.launch.form import choose_form
from pipeline.launch.places import check_data_root, check_extensions, check_places
from pipeline.launch.resources import Resources
from pipeline.losses.plan import LossPlan, plan_losses
from pipeline.models.plan import ModelPlan, plan_model
from pipeline.training.form import TrainingForm
from pipeline.training.inverse_curve import INVERSE_LR, reconcile_inverse_lr
from pipeline.training.stepping import Stepping, plateau_config, resolve_stepping

_BLOCKS = ("optimizer", "scheduler")


@dataclass(frozen=True)
class Preflight:
    """A configuration that was found right, and what was decided on the way.

    Attributes:
        config: the configuration with inherited keys that do not apply dropped.
        resources: processes, devices and batch sizes.
        model: the checked model.
        losses: the active and disabled losses.
        metrics: validation metric -> its arguments.
        stepping: when the scheduler steps.
        form: how all this is computed.
        notes: lines to print at the start.
    """

    config: Config
    resources: Resources
    model: ModelPlan
    losses: LossPlan
    metrics: dict[str, dict[str, Any]]
    stepping: Stepping
    form: TrainingForm
    notes: tuple[str, ...]


def check(
    config: Config,
    given: frozenset[str],
    planned: Resources | None = None,
    *,
    has_torch: bool = True,
    sees_disk: bool = True,
) -> Preflight:
    """Check a configuration whole.

    Args:
        config: settled tree.
        given: dotted keys that the user wrote on the command line.
        planned: what a job on other machines will have; None: this machine decides.
        has_torch: False leaves out what torch alone knows, optimiser and scheduler, and imports no torch.
        sees_disk: False leaves out folders and files, where those of the job are not there.

    Raises:
        ConfigError: with the full path of the key and the valid choices.
        DataError: `data.root` is not a folder.
    """
    config, notes = _drop_pre_transform_keys(config, given)
    stft = check_stft(config)
    model = plan_model(config.model.model_dump(), stft)
    losses = plan_losses(
        config.trainer.loss_config,
        model.loss_keys,
        channels=config.data.channels,
        is_encoder_frozen=config.trainer.train_only == "decoder",
    )
    metrics = _check_metrics(config)
    _check_monitor(config, metrics)
    check_extensions(config)
    if sees_disk:
        check_data_root(config)
        check_places(config, given)
    _check_horizon(config)
    strategy_checks.check(config, has_torch=has_torch)
    training_checks.check(config, losses)
    stepping = _plan_stepping(config)
    inherited = _check_inverse_lr(config, given)
    planned = planned or resources.plan(config)
    strategy_notes = strategy_checks.notes(config, given, planned.world_size)
    _check_precision(config, planned)
    optimizer_notes: list[str] = []
    if has_torch:
        config, optimizer_notes = _check_optimisation(config, planned, stepping, inherited)
    form, form_notes = choose_form(config, planned)
    return Preflight(
        config,
        planned,
        model,
        losses,
        metrics,
        stepping,
        form,
        (
            *notes,
            *_horizon_notes(config),
            *_loader_notes(config),
            *strategy_notes,
            *form_notes,
            *optimizer_notes,
            *losses.notes,
        ),
    )


def check_stft(config: Config) -> StftSettings:
    """Return the run's STFT.

    Raises:
        ConfigError: its numbers give no invertible spectrogram.
    """
    stft = config.data.stft
    try:
        return StftSettings(stft.n_fft, stft.hop_length, stft.win_length)
    except ConfigError as error:
        raise ConfigError(f"data.stft.{error}") from None


def _drop_pre_transform_keys(config: Config, given: frozenset[str]) -> tuple[Config, list[str]]:
    """Drop the arguments of the pre-transform that the model file chose, where the user chose another."""
    where = "model.autoencoder.pre_transform"
    block = config.model.autoencoder.pre_transform
    if block.type not in COMPRESSIONS:
        return config, []
    unknown = set(block.config or {}) - set(parameters(COMPRESSIONS[block.type]))
    dropped = sorted(unknown & inherited_keys(block.model_dump(), {"type": block.type}, where, given))
    if not dropped:
        return config, []
    kept = {key: value for key, value in (block.config or {}).items() if key not in dropped}
    autoencoder = config.model.autoencoder.model_copy(
        update={"pre_transform": block.model_copy(update={"config": kept})}
    )
    config = config.model_copy(update={"model": config.model.model_copy(update={"autoencoder": autoencoder})})
    return config, [f"{where}.type={block.type}: dropped inherited {', '.join(dropped)}"]


def _check_metrics(config: Config) -> dict[str, dict[str, Any]]:
    for name, arguments in config.trainer.eval_loss_config.items():
        _check_same_numbers(config, arguments or {}, f"trainer.eval_loss_config.{name}")
    return plan_metrics(config.trainer.eval_loss_config, config.data.sample_rate_hz)


def _check_same_numbers(config: Config, arguments: dict[str, Any], where: str) -> None:
    """Refuse a metric that would measure another STFT than the run trains on (the guide's reproducibility list)."""
    stft = config.data.stft
    owners = {
        "fft_size": ("data.stft.n_fft", stft.n_fft),
        "hop_size": ("data.stft.hop_length", stft.hop_length),
        "win_length": ("data.stft.win_length", stft.win_length),
    }
    for key, value in arguments.items():
        if key in owners and value is not None and value != owners[key][1]:
            owner, expected = owners[key]
            raise ConfigError(
                f"{where}.{key}={value} differs from {owner}={expected}: training and evaluation must use the same "
                f"numbers; valid: {expected}, or ${{{owner}}}"
            )


def _check_monitor(config: Config, metrics: Mapping[str, Any]) -> None:
    choices, monitor = [f"val/{name}" for name in metrics], config.trainer.trainer.monitor
    if monitor not in choices:
        raise ConfigError(
            f"trainer.trainer.monitor={monitor!r}: not a validation metric; {suggest(monitor, choices)}"
        )


def _check_horizon(config: Config) -> None:
    """Refuse a minimum beyond the maximum, which Lightning would pass over in silence."""
    lightning = config.trainer.trainer
    for unit, least, most in (
        ("epochs", lightning.min_epochs, lightning.max_epochs),
        ("steps", lightning.min_steps, lightning.max_steps),
    ):
        if least is not None and most is not None and 0 <= most < least:
            raise ConfigError(
                f"trainer.trainer.min_{unit}={least} exceeds trainer.trainer.max_{unit}={most}; "
                f"valid: min_{unit} of at most {most}, or null"
            )


def _horizon_notes(config: Config) -> list[str]:
    """Say that a minimum has no effect."""
    lightning = config.trainer.trainer
    return [
        f"trainer.trainer.{key}={least} has no effect: nothing ends training before max_epochs, max_steps"
        for key, least in (("min_epochs", lightning.min_epochs), ("min_steps", lightning.min_steps))
        if least is not None
    ]


def _loader_notes(config: Config) -> list[str]:
    """Say what has no effect in loaders without workers."""
    loaders = {
        "train_dataloader": config.data.train_dataloader,
        "eval_dataloader": config.data.eval_dataloader,
    }
    return [
        f"data.{name}.prefetch_factor={loader.prefetch_factor} has no effect: data.{name}.num_workers=0"
        for name, loader in loaders.items()
        if loader.prefetch_factor is not None and not loader.num_workers
    ]


def _check_precision(config: Config, resources: Resources) -> None:
    if config.trainer.precision == "16-mixed" and not resources.use_gpu:
        raise ConfigError(
            "trainer.precision=16-mixed needs a GPU, and this run is on the CPU, where Lightning would take bfloat16 "
            "instead; valid: 32-true, bf16-mixed, 64-true"
        )


def _check_inverse_lr(config: Config, given: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Check our own scheduler, which needs no torch; returns the inherited `config` entries of both blocks."""
    trainer, shipped = config.trainer, shipped_trainer()
    inherited = {
        name: _inherited(getattr(trainer, name), shipped[name], f"trainer.{name}", given) for name in _BLOCKS
    }
    if trainer.scheduler.type == INVERSE_LR:
        reconcile_inverse_lr(trainer.scheduler.config, inherited["scheduler"], "trainer.scheduler.config")
    return inherited


def _check_optimisation(
    config: Config, resources: Resources, stepping: Stepping, inherited: Mapping[str, dict[str, Any]]
) -> tuple[Config, list[str]]:
    """Check optimiser and scheduler against the signatures of torch's classes."""
    from pipeline.training import optimizer, schedule  # torch: last, and only for its own names

    trainer, notes, settled = config.trainer, [], {}
    for name, family in (("optimizer", optimizer), ("scheduler", schedule)):
        block = getattr(trainer, name)
        where = f"trainer.{name}"
        arguments, dropped = family.reconcile_config(
            block.type, block.config, inherited[name], f"{where}.config"
        )
        if name == "scheduler" and stepping.monitor is not None:
            arguments = plateau_config(arguments, stepping.monitor)
        if dropped:
            notes.append(f"{where}.type={block.type}: dropped inherited {', '.join(dropped)}")
        settled[name] = block.model_copy(update={"config": arguments})
    optimizer_spec, scheduler_spec = (
        settled[name].model_dump(include={"type", "config"}) for name in _BLOCKS
    )
    optimizer.check_optimizer(optimizer_spec)
    optimizer.check_with_trainer(
        optimizer_spec,
        precision=trainer.precision,
        gradient_clip_val=trainer.trainer.gradient_clip_val,
        accumulate_grad_batches=resources.accumulate,
        num_processes=resources.world_size,
        use_gpu=resources.use_gpu,
    )
    if trainer.scheduler.enabled:
        schedule.check_scheduler(scheduler_spec, optimizer_spec)
    return config.model_copy(update={"trainer": trainer.model_copy(update=settled)}), notes


def _inherited(
    block: OptimizerSettings | SchedulerSettings,
    shipped: Mapping[str, Any],
    where: str,
    given: frozenset[str],
) -> dict[str, Any]:
    keys = inherited_keys({"type": block.type, "config": block.config}, shipped, where, given)
    return {key: block.config[key] for key in keys}


def _plan_stepping(config: Config) -> Stepping:
    scheduler, lightning = config.trainer.scheduler, config.trainer.trainer
    return resolve_stepping(
        scheduler.type,
        interval=scheduler.interval,
        monitor=scheduler.monitor,
        default_monitor=lightning.monitor,
        metrics=["train/loss", *(f"val/{name}" for name in config.trainer.eval_loss_config)],
        check_val_every_n_epoch=lightning.check_val_every_n_epoch,
    )

"""Which form a run computes in: `trainer.form`, by fixed rules where it says auto. Imports no torch."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.launch.resources import Resources
from pipeline.models.form import Form
from pipeline.training.form import TrainingForm

_ROOT = "trainer.form"
_COMPILED_NORMS = ("none", "weight_norm", "group_norm", "layer_norm")
_FOLDED_NORMS = ("none", "weight_norm", "spectral_norm")
FUSED_OPTIMIZERS = ("Adagrad", "Adam", "AdamW", "SGD")
_OWN_CHOICE = ("fused", "foreach", "capturable", "differentiable")
_COMPILERS = ("gcc", "clang")  # what Triton looks for, unless CC names one


def choose_form(config: Config, planned: Resources) -> tuple[TrainingForm, list[str]]:
    """Return the form of a run, and lines to print at its start.

    Args:
        config: settled tree.
        planned: processes and devices.

    Raises:
        ConfigError: a form that is asked for is not to be had; names the key and the remedy.
    """
    asked, notes = config.trainer.form, list[str]()
    no_compile = _no_compile(config, planned)
    if asked.compile is True and no_compile:
        raise ConfigError(f"{_ROOT}.compile=true: {no_compile}; valid: auto, false")
    compiled = asked.compile is not False and no_compile is None
    if no_compile and asked.compile == "auto" and planned.use_gpu:
        notes.append(
            f"{_ROOT}.compile: not compiled (steps of the full-size SEANet take two to three times as long): "
            f"{no_compile}"
        )
    no_fold = _no_fold(config)
    if asked.fold is True and no_fold:
        raise ConfigError(f"{_ROOT}.fold=true: {no_fold}; valid: auto, false")
    folded = asked.fold is True or (asked.fold == "auto" and compiled and no_fold is None)
    no_graphs = _no_graphs(config, planned, compiled)
    if asked.cuda_graphs is True and no_graphs:
        raise ConfigError(f"{_ROOT}.cuda_graphs=true: {no_graphs}; valid: auto, false")
    graphs = asked.cuda_graphs is not False and no_graphs is None
    form = Form(fold=folded, compile=compiled, graphs=graphs)
    return TrainingForm(form, _fused(config, planned)), notes


def _no_compile(config: Config, planned: Resources) -> str | None:
    """Why training passes are not compiled."""
    trainer, network = config.trainer, config.model.autoencoder
    reasons = {
        "this run is on the CPU, where single layers are as fast": not planned.use_gpu,
        "the package triton is missing, which torch for GPUs brings along (LOCK=cuda make env)": (
            importlib.util.find_spec("triton") is None
        ),
        "Triton needs a C compiler and Python.h (Debian: apt-get install gcc libc6-dev python3-dev; or set CC)": (
            find_compiler() is None
        ),
        "trainer.precision=64-true is for checks": trainer.precision == "64-true",
        f"trainer.train_only={trainer.train_only} keeps the weights of one half": trainer.train_only
        is not None,
        "model.autoencoder.chunk_frames takes pieces of several lengths": network.chunk_frames is not None,
        "model.autoencoder.activation_checkpointing computes passes twice": network.activation_checkpointing,
    }
    return _first(reasons) or _no_compile_of_half(config, "encoder") or _no_compile_of_half(config, "decoder")


def find_compiler() -> str | None:
    """Return the C compiler with which Triton links what it compiles; None if that, or Python.h, is not there."""
    headers = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    found = os.environ.get("CC") or next(filter(None, map(shutil.which, _COMPILERS)), None)
    return found if headers.exists() else None


def _no_compile_of_half(config: Config, name: str) -> str | None:
    block, where = getattr(config.model, name), f"model.{name}"
    norm, sequence = block["config"].get("norm"), block["config"].get("sequence_model")
    reasons = {
        f"{where}.type={block['type']} is applied layer by layer": norm is None,
        f"{where}.config.norm={norm} keeps a state of its own": norm not in _COMPILED_NORMS,
        f"{where}.config.sequence_model={sequence} is a kernel of its own": sequence == "lstm",
    }
    return _first(reasons)


def _first(reasons: dict[str, bool]) -> str | None:
    return next((text for text, holds in reasons.items() if holds), None)


def _no_fold(config: Config) -> str | None:
    """Why positions are not folded; what `cannot_fold` of a network would say, before there is one."""
    if config.model.autoencoder.activation_checkpointing:
        return "model.autoencoder.activation_checkpointing goes layer by layer"
    return _no_fold_of_half(config, "encoder") or _no_fold_of_half(config, "decoder")


def _no_fold_of_half(config: Config, name: str) -> str | None:
    block, where = getattr(config.model, name), f"model.{name}"
    norm, groups = block["config"].get("norm"), block["config"].get("residual_groups")
    reasons = {
        f"{where}.type={block['type']} has no convolutions of positions": norm is None,
        f"{where}.config.norm={norm} takes statistics over positions": norm not in _FOLDED_NORMS,
        f"{where}.config.residual_groups={groups} leaves each group too few channels": groups != 1,
        f"{where}.config.activation=freqModReLU has a parameter for each bin": (
            block["config"].get("activation") == "freqModReLU"
        ),
    }
    return _first(reasons)


def _no_graphs(config: Config, planned: Resources, compiled: bool) -> str | None:
    """Why compiled passes are launched kernel by kernel."""
    if not compiled:
        return f"only what is compiled can be a CUDA graph; {_ROOT}.compile decides that"
    if planned.accumulate > 1:
        return (
            "trainer.trainer.accumulate_grad_batches adds to gradients, which lie in the graph's own memory"
        )
    if config.trainer.strategy == "deepspeed":
        return "trainer.strategy=deepspeed takes gradients up in a stream that graphs do not wait for"
    if config.trainer.loss_balancer.enabled:
        return "trainer.loss_balancer looks at gradients halfway"
    return None


def _fused(config: Config, planned: Resources) -> bool:
    """Whether the optimiser's step is fused."""
    asked, trainer = config.trainer.form.fused_optimizer, config.trainer
    key = f"{_ROOT}.fused_optimizer"
    own = sorted(
        set(_OWN_CHOICE) & {name for name, value in trainer.optimizer.config.items() if value is not None}
    )
    reasons = {
        f"trainer.optimizer.type={trainer.optimizer.type} has no fused step (valid: {', '.join(FUSED_OPTIMIZERS)})": (
            trainer.optimizer.type not in FUSED_OPTIMIZERS
        ),
        f"trainer.optimizer.config.{own[0] if own else ''} decides already": bool(own),
        "with trainer.precision=16-mixed it unscales gradients that trainer.trainer.gradient_clip_val has clipped": (
            trainer.precision == "16-mixed" and bool(trainer.trainer.gradient_clip_val)
        ),
    }
    reason = _first(reasons)
    if asked is True and reason:
        raise ConfigError(f"{key}=true: {reason}; valid: auto, false")
    return asked is True or (asked == "auto" and planned.use_gpu and reason is None)

"""Builds model, losses, metrics and optimiser of a run from its checked configuration."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.schema import Config
from pipeline.evaluation.metrics import build_metrics
from pipeline.losses.composite import build_losses
from pipeline.losses.plan import LossPlan
from pipeline.models.build import build_autoencoder, describe
from pipeline.models.pieces import describe_pieces
from pipeline.models.recompute import recompute_layers
from pipeline.models.training_options import TrainingOptions
from pipeline.training.compilation import prepare_compilation
from pipeline.training.form import PLAIN, TrainingForm
from pipeline.training.module import AutoencoderModule
from pipeline.training.optimizer import build_optimizer
from pipeline.training.reproducibility import LatentNoise, seed_libraries
from pipeline.training.schedule import build_scheduler
from pipeline.training.stepping import Stepping
from pipeline.training.weight_average import WeightAverage


def build_module(
    config: Config,
    losses: LossPlan,
    metrics: Mapping[str, Mapping[str, Any]],
    stepping: Stepping,
    num_steps: int | None,
    form: TrainingForm = PLAIN,
) -> AutoencoderModule:
    """Build model, losses, metrics and optimiser; the initial weights are a function of the seed.

    Args:
        config: checked configuration.
        losses: active losses.
        metrics: validation metric -> its arguments.
        stepping: when the scheduler steps.
        num_steps: optimiser steps of the whole run, None where no horizon is set.
        form: how all this computes.
    """
    data, trainer = config.data, config.trainer
    seed_libraries(trainer.seed, "initial weights")
    description, balancer = model_description(config), trainer.loss_balancer
    autoencoder = build_autoencoder(description)
    settings, average = config.model.autoencoder, None
    autoencoder.options = TrainingOptions(settings.chunk_frames, settings.latent_mask_ratio)
    if trainer.ema.enabled:
        average = WeightAverage(autoencoder, trainer.ema.decay, trainer.ema.warmup)
    if settings.activation_checkpointing:
        recompute_layers(autoencoder.encoder)
        recompute_layers(autoencoder.decoder)
    if form.model.compile:
        prepare_compilation(Path(data.cache_dir), trainer.deterministic)
    autoencoder.set_form(form.model)
    return AutoencoderModule(
        autoencoder=autoencoder,
        losses=build_losses(
            losses,
            sample_rate_hz=data.sample_rate_hz,
            balance=(balancer.total_norm, balancer.ema_decay) if balancer.enabled else None,
        ),
        metrics=build_metrics(metrics, sample_rate_hz=data.sample_rate_hz),
        noise=LatentNoise(trainer.seed),
        optimizers=partial(_build_optimization, config, stepping, num_steps, form.fused_optimizer),
        inference=description,
        frozen=(autoencoder.encoder, autoencoder.bottleneck) if trainer.train_only == "decoder" else (),
        averaged=average,
    )


def training_notes(config: Config, module: AutoencoderModule) -> list[str]:
    """Return lines that say what the model's training options change."""
    chunk, network = config.model.autoencoder.chunk_frames, module.autoencoder
    if chunk is None:
        return []
    networks = (network.encoder, network.decoder)
    return describe_pieces(chunk, config.data.segment_frames, networks, network.time_stride)


def model_description(config: Config) -> dict[str, Any]:
    """Return the plain description that the autoencoder is built from."""
    data = config.data
    return describe(config.model.model_dump(), data.stft.model_dump(), data.sample_rate_hz, data.channels)


def _build_optimization(
    config: Config,
    stepping: Stepping,
    num_steps: int | None,
    fused: bool,
    parameters: list[torch.nn.Parameter],
) -> dict[str, Any]:
    """Return what Lightning's `configure_optimizers` returns."""
    block = config.trainer.optimizer.model_dump()
    if fused:
        block["config"] = {**block["config"], "fused": True}
    optimizer = build_optimizer(block, parameters)
    if not config.trainer.scheduler.enabled:
        return {"optimizer": optimizer}
    spec = config.trainer.scheduler.model_dump(include={"type", "config"})
    scheduler = build_scheduler(spec, optimizer, num_steps=num_steps if stepping.interval == "step" else None)
    return {"optimizer": optimizer, "lr_scheduler": stepping.lightning(scheduler)}

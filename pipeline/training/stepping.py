"""When a scheduler steps, and what ReduceLROnPlateau looks at. Imports no torch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.registry import suggest
from pipeline.errors import ConfigError
from pipeline.evaluation import HIGHER_IS_BETTER

ROOT = "trainer.scheduler"
PLATEAU = "ReduceLROnPlateau"

Interval = Literal["step", "epoch"]


@dataclass(frozen=True)
class Stepping:
    """When a scheduler steps.

    Attributes:
        interval: after each optimiser step, or after each epoch.
        frequency: one scheduler step in so many intervals.
        monitor: logged name of the metric that ReduceLROnPlateau takes, None for all others.
    """

    interval: Interval
    frequency: int = 1
    monitor: str | None = None

    def lightning(self, scheduler: object) -> dict[str, Any]:
        """Return Lightning's `lr_scheduler` dictionary."""
        settings = {"scheduler": scheduler, "interval": self.interval, "frequency": self.frequency}
        if self.monitor is None:
            return settings
        return {
            **settings,
            "monitor": self.monitor,
            "strict": False,
        }  # no step before the first value is known


def resolve_stepping(
    type_name: str,
    *,
    interval: Interval | None,
    monitor: str | None,
    default_monitor: str,
    metrics: Collection[str],
    check_val_every_n_epoch: int | None,
    where: str = ROOT,
) -> Stepping:
    """Decide when a scheduler steps.

    Args:
        type_name: name of the scheduler.
        interval: None is the epoch for ReduceLROnPlateau, the optimiser step for all others.
        monitor: `trainer.scheduler.monitor`; None takes `default_monitor` for ReduceLROnPlateau.
        default_monitor: what the checkpoints follow.
        metrics: names that are logged, `train/loss` and `val/...`.
        check_val_every_n_epoch: epochs between two validations, if fixed.
        where: full configuration path of the scheduler, for messages.

    Raises:
        ConfigError: a metric that is not logged, or given to a scheduler that reads none, or
            ReduceLROnPlateau at each step.
    """
    if type_name != PLATEAU:
        if monitor is not None:
            raise ConfigError(f"{where}.monitor={monitor!r}: read by {PLATEAU} only, not by {type_name}")
        return Stepping(interval or "step")
    chosen = monitor or default_monitor
    if chosen not in metrics:
        raise ConfigError(f"{where}.monitor={chosen!r}: no such metric is logged; {suggest(chosen, metrics)}")
    if interval == "step":
        raise ConfigError(f"{where}.interval='step': {PLATEAU} judges whole epochs; valid: epoch, null")
    validated = chosen.startswith("val/")
    return Stepping("epoch", (check_val_every_n_epoch or 1) if validated else 1, chosen)


def plateau_config(config: Mapping[str, Any], monitor: str, where: str = ROOT) -> dict[str, Any]:
    """Return the arguments of ReduceLROnPlateau with the `mode` that suits the monitored metric.

    Raises:
        ConfigError: a given mode would lower the learning rate while the metric improves.
    """
    higher = HIGHER_IS_BETTER.get(monitor.removeprefix("val/"), False)
    mode = "max" if higher else "min"
    if config.get("mode", mode) not in (mode, None):
        better = "higher" if higher else "lower"
        reason = f"{better} is better for {monitor}"
        raise ConfigError(f"{where}.config.mode={config['mode']!r}: {reason}; valid: {mode}, or leave it out")
    return {**config, "mode": mode}

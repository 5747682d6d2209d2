"""Learning-rate schedulers by name: InverseLR and those of torch.optim.lr_scheduler that YAML can express."""

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from pipeline.config.registry import suggest
from pipeline.errors import ConfigError
from pipeline.training.arguments import class_parameters, reconcile, rehearse, typed
from pipeline.training.inverse_curve import INVERSE_LR, InverseCurve, reconcile_inverse_lr
from pipeline.training.optimizer import build_optimizer, small_weights
from pipeline.training.stepping import PLATEAU

ROOT = "trainer.scheduler"

_FUNCTION = "it needs a Python function, which YAML cannot express"
_OBJECTS = "it needs other schedulers as objects, which YAML cannot express"
REFUSED = {
    "LambdaLR": _FUNCTION,
    "MultiplicativeLR": _FUNCTION,
    "SequentialLR": _OBJECTS,
    "ChainedScheduler": _OBJECTS,
}

_REHEARSED_STEPS = 2


class InverseLR(LRScheduler):
    """Inverse-power decay with exponential warm-up, as in `InverseCurve`, stepped after each optimiser step.

    The rate is computed from `last_epoch` alone, so it is exact after a resume.

    Args:
        optimizer: whose learning rates at construction are the initial ones.
        inv_gamma: steps after which the rate has fallen to lr0 * 2^(-power).
        power: exponent of the decay.
        warmup: share of the warm-up that is left after each step, at least 0, below 1.
        final_lr: the decay stops at this rate.
        last_epoch: steps done before, less one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        inv_gamma: float = 1.0,
        power: float = 1.0,
        warmup: float = 0.0,
        final_lr: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        # Plain numbers, not the curve object: a checkpoint with this state loads with weights_only=True.
        self.inv_gamma = inv_gamma
        self.power = power
        self.warmup = warmup
        self.final_lr = final_lr
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group at step `last_epoch`."""
        curve = InverseCurve(self.inv_gamma, self.power, self.warmup, self.final_lr)
        return [curve.rate(float(initial_lr), self.last_epoch) for initial_lr in self.base_lrs]


def scheduler_names() -> list[str]:
    """Return the names that `trainer.scheduler.type` may have."""
    return sorted(name for name in _schedulers() if name not in REFUSED)


def reconcile_config(
    type_name: str, config: Mapping[str, Any], inherited: Mapping[str, Any], where: str = f"{ROOT}.config"
) -> tuple[dict[str, Any], list[str]]:
    """Fit `trainer.scheduler.config` to the scheduler's arguments.

    Args:
        type_name: name of the scheduler.
        config: the composed block.
        inherited: keys that the user did not choose; dropped where the scheduler does not have them.
        where: full configuration path of `config`.

    Returns:
        The block without the dropped keys, and the dropped keys.

    Raises:
        ConfigError: an unknown or refused scheduler, an unknown argument, or a required one not given.
    """
    if type_name == INVERSE_LR:
        return reconcile_inverse_lr(config, inherited, where)
    known = class_parameters(_find(type_name, where))
    return reconcile(type_name, known, config, inherited, where)


def check_scheduler(spec: Mapping[str, Any], optimizer_spec: Mapping[str, Any], where: str = ROOT) -> None:
    """Check a `{type, config}` block by a few steps with the chosen optimiser on two small weights.

    Args:
        spec: the scheduler.
        optimizer_spec: `{type, config}` of an optimiser that `check_optimizer` has passed.
        where: full configuration path of `spec`.

    Raises:
        ConfigError: an unknown name, argument or type, a value that torch refuses, or a learning rate that
            becomes negative or not finite; led by the key's path.
    """
    scheduler_class, config = _resolve(spec, where)

    def build(arguments: dict[str, Any]) -> LRScheduler:
        optimizer = build_optimizer(optimizer_spec, small_weights())
        scheduler = scheduler_class(optimizer, **arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the optimiser has not stepped, on purpose
            for _ in range(_REHEARSED_STEPS):
                _require_rates(optimizer)
                scheduler.step(*([1.0] if spec["type"] == PLATEAU else []))
        _require_rates(optimizer)
        return scheduler

    rehearse(build, spec["type"], config, f"{where}.config")


def build_scheduler(
    spec: Mapping[str, Any], optimizer: Optimizer, *, num_steps: int | None = None, where: str = ROOT
) -> LRScheduler:
    """Build the scheduler of a block that `check_scheduler` has passed.

    Args:
        spec: `{type, config}`.
        optimizer: whose rates it sets.
        num_steps: scheduler steps in the whole run, if known.
        where: full configuration path of `spec`, for messages.

    Raises:
        ConfigError: an unknown name, argument or type, or a OneCycleLR that ends before the run.
    """
    scheduler_class, config = _resolve(spec, where)
    scheduler = scheduler_class(optimizer, **config)
    if isinstance(scheduler, lr_scheduler.OneCycleLR) and scheduler.total_steps < (num_steps or 0):
        raise ConfigError(
            f"{where}.config: OneCycleLR ends after {scheduler.total_steps} steps, the run has {num_steps}; "
            f"a new run takes {where}.config.total_steps={num_steps}; one that has begun cannot be extended beyond "
            f"its {scheduler.total_steps} steps, run.init_from starts a new run from its weights"
        )
    return scheduler


def _require_rates(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        if not math.isfinite(rate) or rate < 0:
            raise ValueError(f"the learning rate becomes {rate}")


def _resolve(spec: Mapping[str, Any], where: str) -> tuple[type[Any], dict[str, Any]]:
    scheduler_class = _find(spec["type"], where)
    config, _ = reconcile_config(spec["type"], spec.get("config") or {}, {}, f"{where}.config")
    return scheduler_class, typed(class_parameters(scheduler_class), config, f"{where}.config")


def _schedulers() -> dict[str, type[Any]]:
    found = {
        name: member
        for name, member in vars(lr_scheduler).items()
        if inspect.isclass(member) and issubclass(member, LRScheduler) and not name.startswith("_")
    }
    found.pop("LRScheduler")
    return {**found, INVERSE_LR: InverseLR}


def _find(type_name: str, where: str) -> type[Any]:
    path = f"{where.removesuffix('.config')}.type={type_name!r}"
    if type_name in REFUSED:
        valid = ", ".join(scheduler_names())
        raise ConfigError(f"{path}: cannot be configured: {REFUSED[type_name]}. Valid: {valid}")
    if type_name not in _schedulers():
        raise ConfigError(f"{path}: unknown scheduler; {suggest(type_name, scheduler_names())}")
    return _schedulers()[type_name]

"""Optimisers: every class of torch.optim that suits the dense weights of convolutions, by name."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.config.registry import suggest
from pipeline.errors import ConfigError
from pipeline.training.arguments import REFUSALS, class_parameters, reconcile, rehearse, typed

ROOT = "trainer.optimizer"

_IMPLEMENTATION = ("foreach", "fused")
REFUSED = {
    "Muon": "it takes 2-D weights only, those of convolutions have 3 or 4 axes",
    "SparseAdam": "it takes sparse gradients only, those of convolutions are dense",
}


def optimizer_names() -> list[str]:
    """Return the names that `trainer.optimizer.type` may have."""
    return sorted(name for name in _torch_optimizers() if name not in REFUSED)


def reconcile_config(
    type_name: str, config: Mapping[str, Any], inherited: Mapping[str, Any], where: str = f"{ROOT}.config"
) -> tuple[dict[str, Any], list[str]]:
    """Fit `trainer.optimizer.config` to the optimiser's arguments.

    Args:
        type_name: name of the optimiser.
        config: the composed block.
        inherited: keys that the user did not choose; dropped where the optimiser does not have them.
        where: full configuration path of `config`.

    Returns:
        The block without the dropped keys, and the dropped keys.

    Raises:
        ConfigError: an unknown or refused optimiser, an unknown argument, or a required one not given.
    """
    known = class_parameters(_find(type_name, where))
    return reconcile(type_name, known, config, inherited, where)


def check_optimizer(spec: Mapping[str, Any], where: str = ROOT) -> None:
    """Check a `{type, config}` block by a step on two small weights.

    Raises:
        ConfigError: an unknown name, argument or type, or a value that torch refuses; led by the key's path.
    """
    optimizer_class, config = _resolve(spec, where)

    def build(arguments: dict[str, Any]) -> Optimizer:
        optimizer = optimizer_class(small_weights(), **arguments)
        if not arguments.get("capturable"):  # whose step needs a GPU, which need not be here yet
            optimizer.step(lambda: torch.ones(()))
        return optimizer

    rehearse(build, spec["type"], config, f"{where}.config")


def check_with_trainer(
    spec: Mapping[str, Any],
    *,
    precision: str,
    gradient_clip_val: float | None,
    accumulate_grad_batches: int,
    num_processes: int,
    use_gpu: bool,
    where: str = ROOT,
) -> None:
    """Check an optimiser against the way it is to be used.

    Raises:
        ConfigError: a combination that cannot work; names both keys.
    """
    if spec["type"] == "LBFGS":
        reason = f"{where}.type=LBFGS repeats the whole step and decides by its loss;"
        if num_processes > 1:
            raise ConfigError(f"{reason} {num_processes} processes would decide differently, use one")
        if accumulate_grad_batches > 1:
            raise ConfigError(f"{reason} trainer.trainer.accumulate_grad_batches must be 1")
        if precision == "16-mixed":
            raise ConfigError(f"{reason} trainer.precision=16-mixed scales that loss, use another precision")
    if (spec.get("config") or {}).get("capturable") and not use_gpu:
        raise ConfigError(
            f"{where}.config.capturable=True needs weights on a GPU, and this run is on the CPU; valid: false"
        )
    if (spec.get("config") or {}).get("fused") and precision == "16-mixed" and gradient_clip_val:
        raise ConfigError(
            f"{where}.config.fused=True unscales gradients inside its step, after "
            f"trainer.trainer.gradient_clip_val={gradient_clip_val} clipped them, with "
            "trainer.precision=16-mixed; drop one of the three"
        )


def build_optimizer(
    spec: Mapping[str, Any], params: Iterable[Tensor] | Iterable[dict[str, Any]], where: str = ROOT
) -> Optimizer:
    """Build the optimiser of a block that `check_optimizer` has passed.

    Args:
        spec: `{type, config}`.
        params: weights, or parameter groups.
        where: full configuration path of `spec`, for messages.

    Raises:
        ConfigError: an unknown name, argument or type.
    """
    optimizer_class, config = _resolve(spec, where)
    optimizer = optimizer_class(params, **config)
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    return optimizer


def _keep_implementation(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A stored state brings the values of a step; how the step is computed is the run's own choice."""
    own = {name: optimizer.param_groups[0][name] for name in _IMPLEMENTATION if name in optimizer.defaults}
    return {**state, "param_groups": [{**group, **own} for group in state["param_groups"]]}


def misfit(spec: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
    """Return why an optimiser could not go on from a stored state, None if it can.

    Args:
        spec: `{type, config}` of an optimiser that `check_optimizer` has passed.
        stored: its `state_dict`; the state itself may be left out.
    """
    optimizer_class, config = _resolve(spec, ROOT)
    if config.get("capturable"):  # whose step needs a GPU, which need not be here
        return None
    weights = small_weights()
    optimizer = optimizer_class(weights, **config)
    options = {**stored["param_groups"][0], "params": list(range(len(weights)))}
    try:
        optimizer.load_state_dict({"state": {}, "param_groups": [options]})
        optimizer.step(lambda: torch.ones(()))
    except REFUSALS as error:
        return f"{spec['type']} cannot go on from it ({error})"
    needed = {name for weight in weights[:1] if weight in optimizer.state for name in optimizer.state[weight]}
    for state in list(stored["state"].values())[:1]:
        if missing := sorted(needed - set(state)):
            return f"{spec['type']} finds no {missing[0]} in it"
    return None


def small_weights() -> list[nn.Parameter]:
    """Return a convolution's weight and bias with gradients, on the CPU, to try an optimiser on."""
    weights = [nn.Parameter(torch.ones(shape, device="cpu")) for shape in ((2, 2, 3, 3), (2,))]
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.1)
    return weights


def _resolve(spec: Mapping[str, Any], where: str) -> tuple[type[Any], dict[str, Any]]:
    optimizer_class = _find(spec["type"], where)
    known = class_parameters(optimizer_class)
    config, _ = reconcile(spec["type"], known, spec.get("config") or {}, {}, f"{where}.config")
    return optimizer_class, typed(known, config, f"{where}.config")


def _torch_optimizers() -> dict[str, type[Any]]:
    return {
        name: found
        for name, found in vars(torch.optim).items()
        if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer
    }


def _find(type_name: str, where: str) -> type[Any]:
    path = f"{where.removesuffix('.config')}.type={type_name!r}"
    if type_name in REFUSED:
        valid = ", ".join(optimizer_names())
        raise ConfigError(f"{path}: does not suit this model: {REFUSED[type_name]}. Valid: {valid}")
    if type_name not in _torch_optimizers():
        raise ConfigError(f"{path}: unknown optimiser; {suggest(type_name, optimizer_names())}")
    return _torch_optimizers()[type_name]

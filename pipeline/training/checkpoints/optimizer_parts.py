"""An optimiser's state in the parts of several ranks, and whole.

ZeRO lays all weights of a parameter group end to end, pads them, and gives each rank an equal share; the state that an
elementwise optimiser keeps for a weight (moments) is laid out alike. The whole form is that of a torch optimiser in one
process: `{"state": {index: {name: value}}, "param_groups": [...]}`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Shapes = list[list[list[int]]]
"""Shape of every weight of every parameter group."""

_Part = list[
    dict[str, Any]
]  # of each parameter group: name -> this rank's share, or a number that all weights share


def part_of(flat_state: Mapping[int, Mapping[str, Any]], num_groups: int) -> _Part:
    """Return a rank's part.

    Args:
        flat_state: `state` of an optimiser whose only weight in each group is this rank's flat share.
        num_groups: parameter groups.
    """
    return [dict(flat_state.get(group, {})) for group in range(num_groups)]


def whole_without_parts(param_groups: Sequence[Mapping[str, Any]], shapes: Shapes) -> dict[str, Any]:
    """Return the whole form less what lies in the parts.

    Args:
        param_groups: options of every group.
        shapes: of the weights.
    """
    groups, first = [], 0
    for options, group_shapes in zip(param_groups, shapes, strict=True):
        indices = list(range(first, first + len(group_shapes)))
        groups.append({**{k: v for k, v in options.items() if k != "params"}, "params": indices})
        first += len(indices)
    return {"state": {}, "param_groups": groups, "shapes": shapes}


def merge_parts(whole: Mapping[str, Any], parts: Sequence[_Part]) -> dict[str, Any]:
    """Return the whole form.

    Args:
        whole: from `whole_without_parts`.
        parts: of all ranks, in their order.
    """
    state: dict[int, dict[str, Any]] = {}
    for number, (group, shapes) in enumerate(zip(whole["param_groups"], whole["shapes"], strict=True)):
        numels = [math.prod(shape) for shape in shapes]
        for name, first in parts[0][number].items():
            if _is_shared(first):
                values: list[Any] = [_own(first) for _ in shapes]
            else:
                flat = torch.cat([part[number][name] for part in parts])[: sum(numels)]
                values = [
                    piece.clone().reshape(shape)
                    for piece, shape in zip(flat.split(numels), shapes, strict=True)
                ]
            for index, value in zip(group["params"], values, strict=True):
                state.setdefault(index, {})[name] = value
    return {"state": state, "param_groups": whole["param_groups"]}


def flat_state_of(
    whole: Mapping[str, Any], share_sizes: Sequence[int], rank: int
) -> dict[int, dict[str, Any]]:
    """Return the `state` of one rank's optimiser, as `part_of` takes it.

    Args:
        whole: the whole form.
        share_sizes: elements of one rank's share, of each group.
        rank: whose share.
    """
    states: dict[int, dict[str, Any]] = {}
    for number, (group, size) in enumerate(zip(whole["param_groups"], share_sizes, strict=True)):
        present = [whole["state"][index] for index in group["params"] if index in whole["state"]]
        if not present:
            continue
        states[number] = {}
        for name, first in present[0].items():
            if _is_shared(first):
                states[number][name] = _own(first)  # torch's load_state_dict takes a number of steps as it is
                continue
            flat = torch.cat([entry[name].reshape(-1) for entry in present])
            begin, end = min(rank * size, flat.numel()), min((rank + 1) * size, flat.numel())
            share = flat.new_zeros(size)
            share[: end - begin] = flat[begin:end]
            states[number][name] = share
    return states


def _is_shared(value: Any) -> bool:
    """Whether a value counts for all weights alike, as a number of steps."""
    return not isinstance(value, Tensor) or value.dim() == 0


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value

"""How long each convolution takes, forward and backward, beside the least that its data and its arithmetic need."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table

from benchmarks.layer_calls import LayerCall, watch
from benchmarks.step_times import Ceilings
from benchmarks.trainees import Setting, Trainee

REPEATS = 5


@dataclass(frozen=True)
class LayerTime:
    """One convolution, forward and backward.

    Attributes:
        name: in the autoencoder.
        kind: channels, taps and stride.
        output: its axes.
        ms: time of each form, by its name.
        bytes_ms: least time for input and output, each touched three times: by the forward pass and by both gradients.
        flop_ms: least time for the layer's own arithmetic.
    """

    name: str
    kind: str
    output: str
    ms: dict[str, float]
    bytes_ms: float
    flop_ms: float


def time_layers(trainees: dict[str, Trainee], ceilings: Ceilings) -> list[LayerTime]:
    """Time every convolution by itself, on what it is given in a training step, in several uncompiled forms.

    On a GPU the work of a layer is recorded as a CUDA graph and replayed, so that the time is that of its kernels.
    """
    times: dict[str, dict[str, float]] = {}
    calls: dict[str, LayerCall] = {}
    for form, trainee in trainees.items():
        found: list[LayerCall] = []
        with trainee.setting.active():
            with watch(trainee.model, found.append):
                trainee.loss(trainee.recipe.batches[0])
            for call in found:
                times.setdefault(call.name, {})[form] = _time_layer(call, trainee.setting)
                calls[call.name] = call
        setting = trainee.setting
    return [_limits(calls[name], times[name], setting, ceilings) for name in times]


def _limits(call: LayerCall, ms: dict[str, float], setting: Setting, ceilings: Ceilings) -> LayerTime:
    passes = 3 if call.given.requires_grad else 2  # the first layer has no gradient of its input
    arithmetic = "bf16" if setting.bf16 else "tf32" if setting.tf32 else "float32"
    num_bytes = passes * call.num_values * (2 if setting.bf16 else 4)
    bytes_ms, flop_ms = ceilings.limit_ms(num_bytes, passes * call.flop, arithmetic)
    layer = call.layer
    taps = "x".join(map(str, layer.kernel_size))
    kind = f"{taps} {layer.in_channels * call.num_parts} -> {layer.out_channels * call.num_parts}"
    if max(layer.stride) > 1:
        kind += (" up " if layer.transposed else " down ") + "x".join(map(str, layer.stride))
    return LayerTime(call.name, kind, "x".join(map(str, call.output.shape[2:])), ms, bytes_ms, flop_ms)


def _time_layer(call: LayerCall, setting: Setting) -> float:
    given = call.given.detach().requires_grad_(call.given.requires_grad)
    weights = [weight for weight in call.layer.parameters() if weight.requires_grad]
    wanted = [given, *weights] if given.requires_grad else weights
    upstream: list[torch.Tensor] = []

    def work() -> None:
        autocast = torch.autocast(given.device.type, torch.bfloat16, cache_enabled=False)
        with autocast if setting.bf16 else nullcontext():
            output = call.apply(given)
        if not upstream:
            upstream.append(torch.randn_like(output))
        torch.autograd.grad(output, wanted, upstream[0])

    return _time_on_gpu(work) if given.is_cuda else _time_on_host(work)


def _time_on_host(work: Callable[[], None]) -> float:
    ms = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        ms.append(1000 * (time.perf_counter() - began))
    return statistics.median(ms[1:])


def _time_on_gpu(work: Callable[[], None]) -> float:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what is recorded must have run before
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    graph.replay()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]
    marks[0].record()
    for mark in marks[1:]:
        graph.replay()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(one.elapsed_time(after) for one, after in zip(marks, marks[1:], strict=False))


def draw_layers(name: str, layers: list[LayerTime]) -> Table:
    """Return the table, with the sums of all layers."""
    forms = list(layers[0].ms)
    table = Table(title=f"{name}: convolutions forward and backward, ms")
    for heading in ("layer", "real channels", "output"):
        table.add_column(heading)
    for heading in (*forms, "bytes limit", "FLOP limit", f"{forms[-1]} / limit"):
        table.add_column(heading, justify="right")

    def row(labels: tuple[str, str, str], ms: list[float], limits: tuple[float, float], least: float) -> None:
        figures = [f"{value:.3f}" for value in (*ms, *limits)]
        table.add_row(*labels, *figures, f"{ms[-1] / least:.1f}")

    for layer in layers:
        limits = (layer.bytes_ms, layer.flop_ms)
        row((layer.name, layer.kind, layer.output), [layer.ms[form] for form in forms], limits, max(limits))
    table.add_section()
    limits = (sum(layer.bytes_ms for layer in layers), sum(layer.flop_ms for layer in layers))
    least = sum(max(layer.bytes_ms, layer.flop_ms) for layer in layers)
    row(("all", "", ""), [sum(layer.ms[form] for layer in layers) for form in forms], limits, least)
    return table


def as_json(layers: list[LayerTime]) -> list[dict[str, Any]]:
    """Plain data."""
    return [asdict(layer) for layer in layers]

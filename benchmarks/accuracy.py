"""How exactly every form computes: outputs and gradients against the native reference in float64, and loss curves."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.claims import Claim
from benchmarks.layer_calls import LayerCall, watch
from benchmarks.native_layers import Conv
from benchmarks.native_reference import NativeAutoencoder, as_ours, load_ours
from benchmarks.trainees import Recipe, Setting, Trainee, Variant
from pipeline.training.reproducibility import LatentNoise

OUTPUT_LIMITS = {False: 1e-6, True: 2e-2}  # float32, bf16
GRADIENT_LIMIT = 2.0  # times the plain float32 form's own error
SMALLEST = 2.0**-23  # below one unit in the last place of float32 the comparison of two errors says nothing
CURVE_LIMIT = 0.01
NUM_SEGMENTS = 2  # whose layers are looked into
NUM_BATCHES = 12  # whose gradients are compared
PIECE = 4  # segments whose gradient is computed in float64 at a time


@dataclass(frozen=True)
class Exact:
    """What the reference computes in float64.

    Attributes:
        inputs: of each convolution by name, parts stacked.
        outputs: likewise.
        estimate: compressed spectrogram, parts stacked.
        batches: waveforms (B, C, S) whose gradients follow.
        gradients: of each batch: of each parameter by name, in our layout.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    estimate: Tensor
    batches: tuple[Tensor, ...]
    gradients: tuple[dict[str, Tensor], ...]


@dataclass(frozen=True)
class Errors:
    """Norm-wise relative errors of one form.

    Attributes:
        name: of the form.
        ours: whether it is a form of our model, not the reference in float32.
        bf16: whether it ran in bf16-mixed.
        single: of each convolution's output, given the exact input; empty where it cannot be looked into.
        chained: of the same in the network, given what the layers before gave.
        estimate: of the network's output.
        gradients: of each weight, length and direction of a weight norm apart: of every batch.
    """

    name: str
    ours: bool
    bf16: bool
    single: dict[str, float]
    chained: dict[str, float]
    estimate: float
    gradients: dict[str, list[float]]

    @property
    def over_batches(self) -> dict[str, float]:
        """Of each weight's gradient: the root of the mean square over batches.

        A ReLU that turns at another place than in float64 moves a gradient by more than rounding does, now in one form,
        now in the other: it takes many batches to compare two forms.
        """
        return {
            name: math.sqrt(statistics.fmean(error**2 for error in errors))
            for name, errors in self.gradients.items()
        }


def compute_exact(recipe: Recipe) -> Exact:
    """Run the reference in float64."""
    native = NativeAutoencoder(recipe.description, torch.float64)
    ours, _ = recipe.build()
    load_ours(native, ours.double())
    native = native.to(recipe.device)
    inputs, outputs = dict[str, Tensor](), dict[str, Tensor]()

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def note(module: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
            inputs[name], outputs[name] = _paired(given[0]), _paired(output)

        return note

    convolutions = {name: module for name, module in native.named_modules() if isinstance(module, Conv)}
    hooks = [module.register_forward_hook(keep(name)) for name, module in convolutions.items()]
    batches = recipe.draw(NUM_BATCHES)
    waveform = batches[0][:NUM_SEGMENTS]
    with torch.no_grad():
        estimate = _paired(native(waveform.double(), _noise(recipe, 0, waveform)).estimate)
    for hook in hooks:
        hook.remove()
    like = dict(ours.named_parameters())
    gradients = tuple(_exact_gradients(recipe, native, like, batch) for batch in batches)
    return Exact(inputs, outputs, estimate, batches, gradients)


def _exact_gradients(
    recipe: Recipe, native: NativeAutoencoder, like: dict[str, nn.Parameter], batch: Tensor
) -> dict[str, Tensor]:
    """The gradient of a batch, the mean of those of its pieces."""
    native.zero_grad()
    for first in range(0, len(batch), PIECE):
        piece = batch[first : first + PIECE]
        loss = native(piece.double(), _noise(recipe, first, piece)).loss(recipe.loss_weights())
        (loss * (len(piece) / len(batch))).backward()
    return {name: as_ours(gradient, like[name]) for name, gradient in _of_parameters(native).items()}


def _of_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The gradient of each parameter."""
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def compare(recipe: Recipe, variants: list[Variant]) -> list[Errors]:
    """Run every form; the first is the plain float32 form, the last the reference in float32, for comparison."""
    exact = compute_exact(recipe)
    native = Variant("native, float32", None, Setting())
    return [_errors(recipe, variant, exact) for variant in (*variants, native)]


def _errors(recipe: Recipe, variant: Variant, exact: Exact) -> Errors:
    single, chained = dict[str, float](), dict[str, float]()

    def see(call: LayerCall) -> None:
        chained[call.name] = _relative(call.output, exact.outputs[call.name])
        with torch.no_grad():
            output = call.unfold(call.apply(call.fold(exact.inputs[call.name].float())))
        single[call.name] = _relative(output, exact.outputs[call.name])

    trainee, batches = Trainee(recipe, variant), exact.batches
    looked_into = batches[0][:NUM_SEGMENTS]
    gradients: dict[str, list[float]] = {}
    with variant.setting.active():
        if variant.form is not None and not variant.form.compile:
            with watch(trainee.model, see), torch.no_grad(), trainee.autocast():
                trainee.model(looked_into, _noise(recipe, 0, looked_into))
        for batch, exact_gradients in zip(batches, exact.gradients, strict=True):
            output, found = _gradients(trainee, batch, exact_gradients)
            if batch is batches[0]:
                estimate = _relative(_paired(output)[:NUM_SEGMENTS], exact.estimate)
            for name, gradient in found.items():
                gradients.setdefault(name, []).append(_relative(gradient, exact_gradients[name]))
    ours = variant.form is not None
    return Errors(variant.name, ours, variant.setting.bf16, single, chained, estimate, gradients)


def _gradients(trainee: Trainee, batch: Tensor, like: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The estimate of the spectrogram, and the gradient of each parameter in our layout."""
    noise, model = _noise(trainee.recipe, 0, batch), trainee.model
    model.zero_grad()
    with trainee.autocast():
        output = model(batch, noise)
        if isinstance(model, NativeAutoencoder):
            estimate, loss = output.estimate, output.loss(trainee.recipe.loss_weights())
        else:
            estimate, loss = output.estimate_spectrogram, trainee.losses(output).total
    loss.backward()
    gradients = _of_parameters(model)
    if isinstance(model, NativeAutoencoder):
        gradients = {name: as_ours(gradient, like[name]) for name, gradient in gradients.items()}
    return estimate, gradients


def _noise(recipe: Recipe, first: int, waveform: Tensor) -> Callable[[torch.Size], Tensor]:
    positions = torch.arange(first, first + waveform.shape[0])
    return LatentNoise(recipe.checked.config.trainer.seed).at(positions, waveform.device)


def _paired(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return torch.cat((tensor.real, tensor.imag), 1) if tensor.is_complex() else tensor


def _relative(value: Tensor, exact: Tensor) -> float:
    return ((value.detach().double() - exact).norm() / exact.norm()).item()


def draw_errors(name: str, errors: list[Errors]) -> Table:
    """Return the table: the worst of all layers, for weights the median, too."""
    table = Table(title=f"{name}: norm-wise relative errors against float64, the worst layer")
    table.add_column("form")
    for heading in (
        "layer alone",
        "layer in the network",
        "estimate",
        "gradient",
        "median",
        "to plain float32",
    ):
        table.add_column(heading, justify="right")
    for found in errors:
        layers = [f"{max(values.values()):.1e}" if values else "" for values in (found.single, found.chained)]
        gradients = found.over_batches.values()
        table.add_row(
            found.name,
            *layers,
            f"{found.estimate:.1e}",
            f"{max(gradients):.1e}",
            f"{statistics.median(gradients):.1e}",
            "" if found.bf16 else f"{_worst_ratio(found, errors[0]):.2f}",
        )
    return table


def _worst_ratio(found: Errors, plain: Errors) -> float:
    """The largest of all weights' errors over the plain form's."""
    of_plain = plain.over_batches
    return max(
        error / max(of_plain[name], SMALLEST / GRADIENT_LIMIT) for name, error in found.over_batches.items()
    )


def judge(name: str, errors: list[Errors]) -> list[Claim]:
    """Return the claims on every form."""
    claims = []
    for found in errors:
        limit = OUTPUT_LIMITS[found.bf16]
        if found.single:
            worst = max(found.single, key=found.single.__getitem__)
            what = f"{name}, {found.name}: error of a layer's output, {worst}"
            claims.append(Claim.at_most(what, found.single[worst], limit))
        if found.ours and not found.bf16 and found is not errors[0]:
            what = f"{name}, {found.name}: error of a weight's gradient over the plain float32 form's"
            claims.append(Claim.at_most(what, _worst_ratio(found, errors[0]), GRADIENT_LIMIT))
    return claims


def loss_curves(recipe: Recipe, variants: list[Variant], steps: int) -> dict[str, list[float]]:
    """Train each variant from the same weights on the same batches."""
    curves = {}
    for variant in variants:
        trainee = Trainee(recipe, variant)
        with trainee.setting.active():
            curves[variant.name] = torch.stack([trainee.step() for _ in range(steps)]).tolist()
    return curves


def judge_curves(name: str, curves: dict[str, list[float]]) -> list[Claim]:
    """Return the claims on all curves but the first, which they are compared with."""
    (_, plain), *others = curves.items()
    return [
        Claim.at_most(
            f"{name}, {form}: largest difference of a loss in {len(plain)} steps, {plain[0]:.4f} to {plain[-1]:.4f}",
            100 * max(abs(a - b) / b for a, b in zip(curve, plain, strict=True)),
            100 * CURVE_LIMIT,
            " %",
        )
        for form, curve in others
    ]

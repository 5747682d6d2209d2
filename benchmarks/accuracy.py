"""How exactly every form computes: outputs and gradients against the native reference in float64, and loss curves."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from rich.table import Table
from torch import Tensor, nn

from benchmarks.claims import Claim
from benchmarks.layer_calls import LayerCall, watch
from benchmarks.native_layers import Conv
from benchmarks.native_reference import NativeAutoencoder, as_ours
from benchmarks.trainees import FORMS, Recipe, Setting, Trainee, Variant
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.training.reproducibility import LatentNoise

OUTPUT_LIMITS = {"float64": 1e-12, "float32": 1e-6, "bf16": 2e-2}
GRADIENT_LIMIT = 2.0  # times the plain float32 form's own error
FLOAT64_GRADIENT_LIMIT = 1e-9
SMALLEST = 2.0**-23  # below one unit in the last place of float32 the comparison of two errors says nothing
CURVE_LIMIT = 0.01
NUM_SEGMENTS = 2  # whose layers are looked into
NUM_BATCHES = {"cuda": 96, "cpu": 12}  # whose gradients are compared
NUM_NATIVE_BATCHES = (
    2  # of these, whose gradients the native reference computes in float64, which takes it long
)
PIECE = 4  # segments whose gradient it computes at a time

FOLDED64 = Variant("fold, float64", FORMS["fold"], Setting(float64=True, deterministic=True))
NATIVE = Variant("native, float32", None, Setting())
NATIVE64 = Variant("native, float64", None, Setting(float64=True))


@dataclass(frozen=True)
class Exact:
    """What the native reference computes in float64.

    Attributes:
        inputs: of each convolution by name, parts stacked, for the first segments of the first batch.
        outputs: likewise.
        estimate: compressed spectrogram, parts stacked.
        gradients: of the first batches: of each parameter by name, in our layout.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    estimate: Tensor
    gradients: list[dict[str, Tensor]]


@dataclass
class Errors:
    """Norm-wise relative errors of one form.

    Attributes:
        name: of the form.
        arithmetic: float64, float32 or bf16 (bf16-mixed).
        ours: whether it is a form of our model, not the reference.
        single: of each convolution's output, given the exact input; empty where it cannot be looked into.
        chained: of the same in the network, given what the layers before gave.
        estimate: of the network's output.
        gradients: of each weight, length and direction of a weight norm apart: of every batch.
    """

    name: str
    arithmetic: str
    ours: bool = True
    single: dict[str, float] = field(default_factory=dict)
    chained: dict[str, float] = field(default_factory=dict)
    estimate: float = math.nan
    gradients: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, variant: Variant) -> "Errors":
        """None yet."""
        setting = variant.setting
        arithmetic = "float64" if setting.float64 else "bf16" if setting.bf16 else "float32"
        return cls(variant.name, arithmetic, variant.form is not None)

    def add(self, gradients: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
        """Take in the gradients of one more batch."""
        for name, gradient in gradients.items():
            self.gradients.setdefault(name, []).append(_relative(gradient, exact[name]))

    @property
    def over_batches(self) -> dict[str, float]:
        """Of each weight's gradient: the root of the mean square over batches.

        A ReLU that turns at another place than in float64 moves a gradient by more than rounding does, now in one form,
        now in the other, and by far the most where a loud bin lies: it takes many batches to compare two forms.
        """
        return {
            name: math.sqrt(statistics.fmean(error**2 for error in errors))
            for name, errors in self.gradients.items()
        }


def compare(recipe: Recipe, variants: list[Variant]) -> list[Errors]:
    """Run every form; the first is the plain float32 form.

    Behind them come, for comparison, the reference in float32, and our folded form in float64: it is compared with the
    reference in float64 and then stands for it, since it is tens of times as fast on a GPU.
    """
    folded, of_folded = Trainee(recipe, FOLDED64), Errors.of(FOLDED64)
    compared = {Trainee(recipe, variant): Errors.of(variant) for variant in (*variants, NATIVE)}
    exact = compute_exact(recipe, folded.model)
    for trainee, errors in (*compared.items(), (folded, of_folded)):
        _look_into_layers(trainee, exact, errors)
    for number, batch in enumerate(recipe.draw(NUM_BATCHES[recipe.device.type])):
        estimate, gradients = _compute(folded, batch, folded.model)
        if number == 0:
            of_folded.estimate = _relative(estimate[:NUM_SEGMENTS], exact.estimate)
        if number < NUM_NATIVE_BATCHES:
            of_folded.add(gradients, exact.gradients[number])
        for trainee, errors in compared.items():
            estimate, found = _compute(trainee, batch, folded.model)
            errors.add(found, gradients)
            if number == 0:
                errors.estimate = _relative(estimate[:NUM_SEGMENTS], exact.estimate)
    return [*compared.values(), of_folded]


def compute_exact(recipe: Recipe, ours: nn.Module) -> Exact:
    """Run the native reference in float64; gradients come in the layout of `ours`."""
    native = Trainee(recipe, NATIVE64)
    inputs, outputs = dict[str, Tensor](), dict[str, Tensor]()

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def note(module: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
            inputs[name], outputs[name] = _paired(given[0]), _paired(output)

        return note

    convolutions = {name: module for name, module in native.model.named_modules() if isinstance(module, Conv)}
    hooks = [module.register_forward_hook(keep(name)) for name, module in convolutions.items()]
    with torch.no_grad(), native.setting.active():
        estimate, _ = _pass(native, recipe.batches[0][:NUM_SEGMENTS], 0)
    for hook in hooks:
        hook.remove()
    gradients = [_compute(native, batch, ours, PIECE)[1] for batch in recipe.draw(NUM_NATIVE_BATCHES)]
    return Exact(inputs, outputs, _paired(estimate), gradients)


def _look_into_layers(trainee: Trainee, exact: Exact, errors: Errors) -> None:
    """Compare convolutions, unless they are compiled or not ours."""

    def see(call: LayerCall) -> None:
        errors.chained[call.name] = _relative(call.output, exact.outputs[call.name])
        with torch.no_grad():
            output = call.unfold(call.apply(call.fold(exact.inputs[call.name].to(trainee.setting.dtype))))
        errors.single[call.name] = _relative(output, exact.outputs[call.name])

    if isinstance(trainee.model, SpectrogramAutoencoder) and not trainee.model.form.compile:
        with trainee.setting.active(), watch(trainee.model, see), torch.no_grad():
            _pass(trainee, trainee.recipe.batches[0][:NUM_SEGMENTS], 0)


def _compute(
    trainee: Trainee, batch: Tensor, ours: nn.Module, piece: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The estimate of the first piece's spectrogram, parts stacked, and the gradient of each parameter of `ours`."""
    trainee.model.zero_grad()
    parts = batch.split(piece or len(batch))
    estimates = []
    with trainee.setting.active():
        for number, part in enumerate(parts):
            estimate, loss = _pass(trainee, part, number * len(parts[0]))
            (loss * (len(part) / len(batch))).backward()
            estimates.append(_paired(estimate)[:NUM_SEGMENTS].clone())
    like = dict(ours.named_parameters())
    gradients = {
        name: as_ours(weight.grad, like[name])
        for name, weight in trainee.model.named_parameters()
        if weight.grad is not None
    }
    return estimates[0], gradients


def _pass(trainee: Trainee, waveform: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The estimate of the spectrogram and the loss."""
    recipe, model, waveform = trainee.recipe, trainee.model, waveform.to(trainee.setting.dtype)
    positions = torch.arange(first, first + len(waveform))
    noise = LatentNoise(recipe.checked.config.trainer.seed).at(positions, waveform.device)
    with trainee.autocast():
        output = model(waveform, noise)
        if isinstance(model, NativeAutoencoder):
            return output.estimate, output.loss(recipe.loss_weights())
        return output.estimate_spectrogram, trainee.losses(output).total


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
            f"{_worst_ratio(found, errors[0]):.2f}" if found.arithmetic == "float32" else "",
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
        if found.single:
            worst = max(found.single, key=found.single.__getitem__)
            what = f"{name}, {found.name}: error of a layer's output, {worst}"
            claims.append(Claim.at_most(what, found.single[worst], OUTPUT_LIMITS[found.arithmetic]))
        if found.arithmetic == "float64":
            what = f"{name}, {found.name}: error of a weight's gradient to the native reference in float64"
            worst_error = max(found.over_batches.values())
            claims.append(Claim.at_most(what, worst_error, FLOAT64_GRADIENT_LIMIT))
        elif found.ours and found.arithmetic == "float32" and found is not errors[0]:
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

"""How fast a training step is: a native complex64 reference and ours in several forms, side by side in one run.

    python benchmarks/train_step.py                      # the full-size recipes on a GPU, the small ones on a CPU
    python benchmarks/train_step.py --layers --deterministic --accuracy --curves 200 --json step.json
    python benchmarks/train_step.py --only complex --rounds 3 --steps 5
    python benchmarks/train_step.py --cpu --forms plain fold compile

A step is everything from the waveform on the device: STFT, compression, encoder, bottleneck, decoder, the recipe's
losses, backward pass, AdamW, gradients set free. The rounds of all variants alternate; the median of all steps counts,
by CUDA events on a GPU and by the clock on a CPU. The reference (`benchmarks/native_reference.py`) runs as torch does
by default: TF32 in convolutions, AdamW not fused. "Peak" is the most memory that a variant's weights, its optimiser
and one step hold at a time.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.table import Table

from benchmarks import accuracy, layer_times
from benchmarks.claims import Claim, Record
from benchmarks.step_times import StepTime, alternate, measure_ceilings, peaks_apart, prepare, time_steps
from benchmarks.trainees import EXPERIMENTS, FORMS, Recipe, Setting, Trainee, Variant
from pipeline.models.form import Form
from pipeline.training.reproducibility import prepare_determinism

CHOSEN = {"cuda": "fold+compile+graphs", "cpu": "plain"}  # what training takes by default
FLOAT32, TF32, BF16 = Setting(), Setting(tf32=True), Setting(bf16=True, tf32=True)  # as torch does by default
LARGEST_MS = {"complex": 15.0, "real": 14.0}
AIMED_MS = {"complex": (9.5, 7.0), "real": (9.0,)}
LARGEST_TF32_MS = 30.0
LEAST_SPEEDUP = {"cuda": 8.0, "cpu": 1.7}
LARGEST_SHARE_OF_MEMORY = 1 / 3
LARGEST_COST_OF_DETERMINISM = 0.05
REPEATED_STEPS = 5


class Measurement:
    """One recipe, measured as the command line asks.

    Args:
        recipe: complex or real.
        options: from `parse`.
        record: takes the results.
    """

    def __init__(self, recipe: Recipe, options: argparse.Namespace, record: Record) -> None:
        self.recipe, self.options, self.record = recipe, options, record
        self.peaks: dict[tuple[Form | None, Setting], float | None] = {}  # of what is compiled
        self.on_gpu = recipe.device.type == "cuda"
        self.chosen = CHOSEN[recipe.device.type]
        size = "small" if options.small else "full-size"
        self.title = f"{size} {recipe.name} recipe, batch {recipe.batch_size}"
        self.reference = "native complex64" if recipe.name == "complex" else "native float32"

    def variants(self) -> list[Variant]:
        """Return what is timed: the reference first."""
        forms = self.options.forms
        if not self.on_gpu:
            return [Variant(self.reference, None, FLOAT32), *self._ours(forms, "", FLOAT32)]
        native = [Variant(self.reference, None, TF32), Variant(f"{self.reference}, TF32 off", None, FLOAT32)]
        plain = [form for form in forms if form == "plain"]
        most = [form for form in forms if form in ("plain", self.chosen)]
        return [
            *native,
            *self._ours(plain, ", float32", FLOAT32),
            *self._ours(most, ", TF32", TF32),
            *self._ours(forms, ", bf16", BF16),
        ]

    def _ours(self, forms: list[str], suffix: str, setting: Setting) -> list[Variant]:
        own = replace(setting, deterministic=True)  # as runs do by default
        return [Variant(f"{form}{suffix}", FORMS[form], own) for form in forms]

    def asked(self) -> dict[Callable[[list[Variant]], None], list[Variant]]:
        """Return what is measured, and the variants that it takes."""
        options, other = self.options, self.chosen if self.chosen != "plain" else "fold"
        free = Setting(tf32=True, bf16=self.on_gpu)
        strict = replace(free, deterministic=True)
        pair = [Variant("free", FORMS[self.chosen], free), Variant("strict", FORMS[self.chosen], strict)]
        forms = [form for form in options.forms if form in ("plain", "fold", self.chosen)]
        others = [form for form in forms if form != "plain"]
        exact = self._ours(["plain", *others], ", float32", FLOAT32)
        rounded = self._ours(forms, ", bf16", BF16) if self.on_gpu else []
        curves = self._ours(["plain", other], "", FLOAT32)
        parts = [
            (self.time, not options.no_times, self.variants()),
            (self.layers, options.layers, []),
            (self.determinism, options.deterministic, pair),
            (self.accuracy, options.accuracy, [*exact, *rounded]),
            (self.curves, options.curves > 0, curves),
        ]
        return {part: variants for part, is_asked, variants in parts if is_asked}

    def time(self, variants: list[Variant]) -> None:
        """Time all variants, print the table and judge the claims."""
        times = self._alternate(variants)
        self.record.show(self._draw(list(times.values())))
        self.record.keep(f"{self.recipe.name}/times", [each.as_json() for each in times.values()])
        self.record.judge(self._judge(times))

    def _alternate(self, variants: list[Variant]) -> dict[str, StepTime]:
        """Time variants side by side."""
        options, peaks, measured = self.options, {}, {}
        for variant in variants:
            began = time.perf_counter()
            trainee, peak = prepare(partial(Trainee, self.recipe, variant), options.warm_up)
            peaks[variant.name] = self.peaks.get((variant.form, variant.setting), peak)
            self.record.show(f"ready    {variant.name}, after {time.perf_counter() - began:.1f} s")
            measured[variant.name] = partial(time_steps, trainee, options.steps, options.settle)
        return {
            name: StepTime.of(name, rounds, self.recipe.batch_size, peaks[name])
            for name, rounds in alternate(measured, options.rounds).items()
        }

    def _draw(self, times: list[StepTime]) -> Table:
        table = Table(title=self.title)
        table.add_column("variant")
        for heading in ("ms/step", "lowest", "highest", "segments/s", "peak GiB", "speed to reference"):
            table.add_column(heading, justify="right")
        for each in times:
            table.add_row(
                each.name,
                *(f"{value:.2f}" for value in (each.median_ms, each.lowest_ms, each.highest_ms)),
                f"{each.segments_per_s:.1f}",
                "" if each.peak_gib is None else f"{each.peak_gib:.2f}",
                f"{times[0].median_ms / each.median_ms:.2f}",
            )
        return table

    def _judge(self, times: dict[str, StepTime]) -> list[Claim]:
        name, reference = self.recipe.name, times[self.reference]
        best = times.get(f"{self.chosen}, bf16" if self.on_gpu else self.chosen)
        claims = []
        if best is not None and name == "complex":
            ratio = reference.median_ms / best.median_ms
            what = f"{self.title}, {best.name}: speed to the reference"
            claims.append(Claim.at_least(what, ratio, LEAST_SPEEDUP[self.recipe.device.type]))
        if best is None or not self.on_gpu:
            return claims
        claims.append(Claim.at_most(f"{self.title}, {best.name}", best.median_ms, LARGEST_MS[name], " ms"))
        for aim in AIMED_MS[name]:
            reached = "reached" if best.median_ms <= aim else "not reached"
            self.record.show(f"aim      {aim:g} ms: {reached}")
        if name == "complex":
            in_tf32 = times[f"{self.chosen}, TF32"].median_ms
            claims.append(
                Claim.at_most(f"{self.title}, {self.chosen}, TF32", in_tf32, LARGEST_TF32_MS, " ms")
            )
            share = best.peak_gib / reference.peak_gib
            what = f"{self.title}, {best.name}: peak memory to the reference's"
            claims.append(Claim.at_most(what, share, round(LARGEST_SHARE_OF_MEMORY, 4)))
        return claims

    def layers(self, _: list[Variant]) -> None:
        """Time every convolution."""
        ceilings = measure_ceilings(self.recipe.device)
        rates = ", ".join(f"{rate / 1e12:.4g} TFLOP/s {name}" for name, rate in ceilings.flop_per_s.items())
        self.record.show(f"this device, measured: {ceilings.bytes_per_s / 1e12:.3g} TB/s copied; {rates}")
        setting = BF16 if self.on_gpu else FLOAT32
        forms = {name: FORMS[name] for name in ("plain", "fold")}
        trainees = {name: Trainee(self.recipe, Variant(name, form, setting)) for name, form in forms.items()}
        layers = layer_times.time_layers(trainees, ceilings)
        self.record.show(layer_times.draw_layers(self.title, layers))
        self.record.keep(f"{self.recipe.name}/layers", layer_times.as_json(layers))

    def determinism(self, variants: list[Variant]) -> None:
        """Time the chosen form with and without deterministic kernels, and train twice with them."""
        times = self._alternate(variants)
        self.record.keep(f"{self.recipe.name}/determinism", [each.as_json() for each in times.values()])
        cost = times["strict"].median_ms / times["free"].median_ms - 1
        figures = f"{times['strict'].median_ms:.2f} ms for {times['free'].median_ms:.2f} ms"
        what = f"{self.title}, {self.chosen}: cost of determinism, {figures}"
        ends = [self._train_anew(variants[1]) for _ in range(2)]
        equal = all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
        again = Claim(f"{self.title}: {REPEATED_STEPS} deterministic steps twice, to equal weights", equal)
        on_gpu = [Claim.at_most(what, 100 * cost, 100 * LARGEST_COST_OF_DETERMINISM, " %")]
        self.record.judge([*(on_gpu if self.on_gpu else []), again])  # a CPU has no other kernels

    def _train_anew(self, variant: Variant) -> list[torch.Tensor]:
        trainee = Trainee(self.recipe, variant)
        with trainee.setting.active():
            for _ in range(REPEATED_STEPS):
                trainee.step()
        return list(trainee.model.parameters())

    def accuracy(self, variants: list[Variant]) -> None:
        """Compare every form with float64, with deterministic kernels as runs have them."""
        errors = accuracy.compare(self.recipe, variants)
        self.record.show(accuracy.draw_errors(self.title, errors))
        self.record.keep(f"{self.recipe.name}/accuracy", [vars(each) for each in errors])
        self.record.judge(accuracy.judge(self.title, errors))

    def curves(self, variants: list[Variant]) -> None:
        """Train plain and chosen side by side."""
        curves = accuracy.loss_curves(self.recipe, variants, self.options.curves)
        self.record.keep(f"{self.recipe.name}/curves", curves)
        self.record.judge(accuracy.judge_curves(self.title, curves))


def parse() -> argparse.Namespace:
    """Return the command line, settled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="the small default model, on 2 threads")
    parser.add_argument("--small", action="store_true", help="the small model on a GPU; nothing is claimed")
    parser.add_argument("--only", choices=list(EXPERIMENTS), help="one recipe (default: both)")
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=list(FORMS),
        help="(default: plain fold compile fold+compile+graphs; on a CPU plain fold)",
    )
    parser.add_argument("--batch-size", type=int, help="segments (default: the recipe's)")
    parser.add_argument("--rounds", type=int, default=5, help="of each variant (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of a round (default: 10; on a CPU 3)")
    parser.add_argument("--no-times", action="store_true", help="only what the following ask for")
    parser.add_argument("--layers", action="store_true", help="every convolution against the device's limits")
    parser.add_argument("--deterministic", action="store_true", help="what deterministic kernels cost")
    parser.add_argument("--accuracy", action="store_true", help="every form against float64")
    parser.add_argument("--curves", type=int, default=0, metavar="STEPS", help="loss curves of two forms")
    parser.add_argument("--json", type=Path, help="write the figures here, as they come")
    options = parser.parse_args()
    options.cpu = options.cpu or not torch.cuda.is_available()
    options.small = options.small or options.cpu
    options.steps = options.steps or (3 if options.cpu else 10)
    options.settle, options.warm_up = (1, 2) if options.cpu else (3, 4)
    shown = ["plain", "fold"] if options.cpu else ["plain", "fold", "compile", CHOSEN["cuda"]]
    options.forms = options.forms or shown
    return options


def compile_ahead(
    measurements: dict[str, Measurement], make: Mapping[str, Callable[[], Recipe]], record: Record
) -> None:
    """Compile side by side what is needed later, which takes minutes one after the other, and note the memory."""
    wanted = {
        (name, variant.form, variant.setting): (make[name], variant)
        for name, measurement in measurements.items()
        for variants in measurement.asked().values()
        for variant in variants
        if variant.form is not None and variant.form.compile
    }
    if not wanted:
        return
    began = time.perf_counter()
    peaks = dict(zip(wanted, peaks_apart(list(wanted.values())), strict=True))
    for name, measurement in measurements.items():
        measurement.peaks = {key[1:]: peak for key, peak in peaks.items() if key[0] == name}
    record.show(f"compiled {len(peaks)} variants, after {time.perf_counter() - began:.0f} s")


def main() -> int:
    """Measure, print, and return 1 if a claim fails at full size on a GPU."""
    options = parse()
    prepare_determinism(deterministic=True, strict=True)  # as a run does, before CUDA starts
    if options.cpu:
        torch.set_num_threads(2)
    torch._dynamo.config.recompile_limit = 256  # all variants share their code
    device = torch.device("cpu" if options.cpu else "cuda")
    record = Record(options.json, device)
    names = [options.only] if options.only else list(EXPERIMENTS)
    make = {
        name: partial(Recipe.of, name, device, small=options.small, batch_size=options.batch_size)
        for name in names
    }
    measurements = {name: Measurement(make[name](), options, record) for name in names}
    if not options.cpu:
        compile_ahead(measurements, make, record)
    for measurement in measurements.values():
        for part, variants in measurement.asked().items():
            part(variants)
            torch._dynamo.reset()
            gc.collect()
    return 1 if not options.small and options.batch_size is None and not record.all_hold else 0


if __name__ == "__main__":
    sys.exit(main())

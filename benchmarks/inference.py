"""How fast a model encodes and decodes: batch 1 and large, segments of several lengths, in several forms.

    python benchmarks/inference.py              # the full-size models on a GPU, the small ones on a CPU
    python benchmarks/inference.py --only complex --seconds 10 30 --batches 1 32 --json inference.json

Waveforms lie on the device, latents and the reconstruction stay there. The real-time factor is seconds of audio, all
channels of a segment counted once, per second of computing. The rounds of all forms alternate, the median counts.
Float32 as `pipeline.inference` computes it, without TF32 and with deterministic kernels; on a GPU also bf16. What is
compiled (`--forms compile fold+compile`) is compiled anew for every shape, which takes most of such a run.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.claims import Record
from benchmarks.step_times import alternate, synchronize
from benchmarks.trainees import EXPERIMENTS, FORMS, Recipe, Setting, draw_waveforms
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.models.form import Form
from pipeline.training.reproducibility import prepare_determinism

FLOAT32, BF16 = Setting(deterministic=True), Setting(bf16=True, deterministic=True)


@dataclass(frozen=True)
class Speed:
    """How fast one form works on one shape.

    Attributes:
        form: of the autoencoder, and its arithmetic.
        batch: segments.
        seconds: of audio in each.
        encode_ms: waveform to latents.
        decode_ms: latents to waveform.
    """

    form: str
    batch: int
    seconds: float
    encode_ms: float
    decode_ms: float

    @property
    def encode_factor(self) -> float:
        """Seconds of audio encoded per second."""
        return 1000 * self.batch * self.seconds / self.encode_ms

    @property
    def decode_factor(self) -> float:
        """Seconds of audio decoded per second."""
        return 1000 * self.batch * self.seconds / self.decode_ms


@dataclass(frozen=True)
class Codec:
    """An autoencoder in evaluation mode, in one form.

    Attributes:
        autoencoder: the model.
        setting: of arithmetic.
    """

    autoencoder: SpectrogramAutoencoder
    setting: Setting

    @classmethod
    def of(cls, recipe: Recipe, form: Form, setting: Setting) -> "Codec":
        """Build it; what is compiled is compiled anew for each shape."""
        autoencoder, _ = recipe.build()
        autoencoder = autoencoder.to(recipe.device).eval()
        autoencoder.set_form(Form(fold=form.fold))
        for network in (
            autoencoder.encoder,
            autoencoder.decoder,
        ):  # training alone takes these forms by itself
            network.training = form.fold
            if form.compile:
                network.compile(dynamic=False)
        return cls(autoencoder, setting)

    def run(self, work: Callable[[], Tensor], device: torch.device) -> Tensor:
        """Compute something, to its end."""
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=self.setting.bf16)
        with torch.no_grad(), self.setting.active(), autocast:
            result = work()
        synchronize(device)
        return result


def measure(
    codecs: dict[str, Codec], waveform: Tensor, seconds: float, options: argparse.Namespace
) -> list[Speed]:
    """Time encoding and decoding by all forms, side by side."""
    device, num_samples = waveform.device, waveform.shape[-1]

    def timed(codec: Codec, work: Callable[[], Tensor]) -> list[float]:
        found = []
        for _ in range(options.repeats + 1):
            began = time.perf_counter()
            codec.run(work, device)
            found.append(1000 * (time.perf_counter() - began))
        return found[1:]  # the first one brings the device back to this work

    works: dict[tuple[str, str], Callable[[], list[float]]] = {}
    for name, codec in codecs.items():
        encode = partial(codec.autoencoder.encode, waveform)
        latents = codec.run(encode, device)
        decode = partial(codec.autoencoder.decode, latents, num_samples)
        codec.run(decode, device)
        works[name, "encode"], works[name, "decode"] = (
            partial(timed, codec, encode),
            partial(timed, codec, decode),
        )
    medians = {
        key: statistics.median(ms for each in rounds for ms in each)
        for key, rounds in alternate(works, options.rounds).items()
    }
    return [
        Speed(name, waveform.shape[0], seconds, medians[name, "encode"], medians[name, "decode"])
        for name in codecs
    ]


def draw(title: str, speeds: list[Speed]) -> Table:
    """Return the table."""
    table = Table(title=title)
    table.add_column("form")
    for heading in ("batch", "seconds", "encode ms", "decode ms", "encode x real time", "decode x real time"):
        table.add_column(heading, justify="right")
    for speed in speeds:
        table.add_row(
            speed.form,
            str(speed.batch),
            f"{speed.seconds:g}",
            f"{speed.encode_ms:.2f}",
            f"{speed.decode_ms:.2f}",
            f"{speed.encode_factor:.1f}",
            f"{speed.decode_factor:.1f}",
        )
    return table


def measure_recipe(name: str, device: torch.device, options: argparse.Namespace, record: Record) -> None:
    """Measure one recipe's model on every shape."""
    recipe = Recipe.of(name, device, small=options.small, batch_size=1)
    data = recipe.checked.config.data
    settings = {"": FLOAT32} if device.type == "cpu" else {"": FLOAT32, ", bf16": BF16}
    codecs = {
        f"{form}{suffix}": Codec.of(recipe, FORMS[form], setting)
        for suffix, setting in settings.items()
        for form in options.forms
    }
    title = f"{'small' if options.small else 'full-size'} {name} model"
    speeds: list[Speed] = []
    for seconds in options.seconds:
        for batch in options.batches:
            shape = (batch, data.channels, round(seconds * data.sample_rate_hz))
            waveform = draw_waveforms(shape, data.sample_rate_hz, 0, device)
            found = measure(codecs, waveform, seconds, options)
            record.show(draw(title, found))
            speeds += found
            figures = [
                asdict(s) | {"encode_factor": s.encode_factor, "decode_factor": s.decode_factor}
                for s in speeds
            ]
            record.keep(name, figures)


def main() -> int:
    """Measure, print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="the small models, on 2 threads")
    parser.add_argument("--only", choices=list(EXPERIMENTS), help="one model (default: both)")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), help="(default: plain and fold)")
    parser.add_argument(
        "--seconds", nargs="+", type=float, help="lengths of a segment (default: 1.5 10; on a CPU 10)"
    )
    parser.add_argument("--batches", nargs="+", type=int, help="(default: 1 32; on a CPU 1 4)")
    parser.add_argument("--rounds", type=int, default=3, help="of each form (default: %(default)s)")
    parser.add_argument("--repeats", type=int, help="of a round (default: 5; on a CPU 1)")
    parser.add_argument("--json", type=Path, help="write the figures here, as they come")
    options = parser.parse_args()
    options.cpu = options.small = options.cpu or not torch.cuda.is_available()
    options.forms = options.forms or ["plain", "fold"]
    options.seconds = options.seconds or ([10.0] if options.cpu else [1.5, 10.0])
    options.batches = options.batches or ([1, 4] if options.cpu else [1, 32])
    options.repeats = options.repeats or (1 if options.cpu else 5)
    prepare_determinism(deterministic=True, strict=True)  # as a run does, before CUDA starts
    if options.cpu:
        torch.set_num_threads(2)
    torch._dynamo.config.recompile_limit = 256  # all forms and shapes share their code
    device = torch.device("cpu" if options.cpu else "cuda")
    record = Record(options.json, device)
    for name in [options.only] if options.only else list(EXPERIMENTS):
        measure_recipe(name, device, options, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `benchmarks/train_step.py` trains: a recipe in one of several forms, from the same weights and batches."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from torch import Tensor, nn

from benchmarks.native_reference import NativeAutoencoder, load_ours
from benchmarks.recipe import checked_config
from pipeline.launch.preflight import Preflight
from pipeline.models.autoencoder import SpectrogramAutoencoder
from pipeline.models.form import Form
from pipeline.training.module_build import build_module, model_description
from pipeline.training.optimizer import build_optimizer
from pipeline.training.reproducibility import LatentNoise

EXPERIMENTS = {"complex": "full_size_complex", "real": "full_size_real"}
SMALL = {"complex": "SEANet_complex_small", "real": "SEANet_real_small"}
FORMS = {
    "plain": Form(),
    "fold": Form(fold=True),
    "compile": Form(compile=True),
    "fold+compile": Form(fold=True, compile=True),
    "fold+compile+graphs": Form(fold=True, compile=True, graphs=True),
}
NUM_BATCHES = 4  # different ones that lie on the device, taken in turns


@dataclass(frozen=True)
class Setting:
    """How arithmetic is done.

    Attributes:
        tf32: whether convolutions of float32 may round their inputs to 10 bits, where the device does that.
        bf16: whether the forward pass and the loss see autocast, as Lightning's bf16-mixed.
        float64: whether everything is done in it, as Lightning's 64-true.
        deterministic: whether what has no deterministic kernel is refused, and kernels are compiled by rule, not by
            timing, as runs do by default.
    """

    tf32: bool = False
    bf16: bool = False
    float64: bool = False
    deterministic: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and waveforms."""
        return torch.float64 if self.float64 else torch.float32

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make it so, and undo it."""
        matmul, deterministic = torch.backends.cuda.matmul, torch.are_deterministic_algorithms_enabled()
        was, matmul.allow_tf32 = matmul.allow_tf32, self.tf32
        torch.use_deterministic_algorithms(self.deterministic)
        compiler = torch._inductor.config
        by_rule, compiler.deterministic = compiler.deterministic, self.deterministic
        try:
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=self.deterministic, allow_tf32=self.tf32
            ):
                yield
        finally:
            matmul.allow_tf32 = was
            compiler.deterministic = by_rule
            torch.use_deterministic_algorithms(deterministic)


@dataclass(frozen=True)
class Recipe:
    """A checked configuration, and batches on the device.

    Attributes:
        name: complex or real.
        checked: the configuration.
        batches: waveforms (B, C, S).
        device: where they lie.
    """

    name: str
    checked: Preflight
    batches: tuple[Tensor, ...]
    device: torch.device

    @classmethod
    def of(cls, name: str, device: torch.device, *, small: bool, batch_size: int | None) -> "Recipe":
        """Compose the full-size recipe, or the small default one, with its own batch size if None is given."""
        overrides = ["trainer.precision=32-true", f"trainer.num_gpus={int(device.type == 'cuda')}"]
        if small:
            overrides.append(f"model={SMALL[name]}")
        if batch_size is not None:
            overrides.append(f"data.train_dataloader.batch_size={batch_size}")
        with tempfile.TemporaryDirectory() as folder:
            experiment = "default" if small else EXPERIMENTS[name]
            checked = checked_config(Path(folder) / "run", *overrides, experiment=experiment)
        return cls(name, checked, tuple(_draw(checked, NUM_BATCHES, device)), device)

    def draw(self, num_batches: int) -> Iterator[Tensor]:
        """Yield so many batches, the first of them equal to `batches`."""
        return _draw(self.checked, num_batches, self.device)

    @property
    def batch_size(self) -> int:
        """Segments of a step."""
        return self.batches[0].shape[0]

    @property
    def description(self) -> dict[str, Any]:
        """Of the model."""
        return model_description(self.checked.config)

    def build(self) -> tuple[SpectrogramAutoencoder, nn.Module]:
        """Return the autoencoder with its initial weights, the same every time, and the losses, on the CPU."""
        checked = self.checked
        module = build_module(checked.config, checked.losses, {}, checked.stepping, None)
        return module.autoencoder, module.losses

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the losses, which must be those that the reference knows."""
        weights = {planned.name: planned.weight for planned in self.checked.losses.active}
        assert weights.keys() <= {"stft_mse", "kl"}, f"the native reference has no {sorted(weights)}"
        return weights


def _draw(checked: Preflight, num_batches: int, device: torch.device) -> Iterator[Tensor]:
    data = checked.config.data
    shape = (checked.resources.batch_size, data.channels, data.segment_samples)
    return (draw_waveforms(shape, data.sample_rate_hz, seed, device) for seed in range(num_batches))


def draw_waveforms(
    shape: tuple[int, int, int], sample_rate_hz: int, seed: int, device: torch.device
) -> Tensor:
    """Return tones that decay, and some noise: (B, C, S)."""
    generator = torch.Generator().manual_seed(seed)
    seconds = (torch.arange(shape[2]) / sample_rate_hz).to(device)
    waveform = 0.01 * torch.randn(shape, generator=generator).to(device)
    for _ in range(6):
        pitch, phase, start = torch.rand(3, *shape[:2], 1, generator=generator).to(device)
        tone = torch.sin(2 * torch.pi * (60 * 100**pitch * seconds + phase))
        after = seconds - start * seconds[-1]
        waveform += 0.2 * tone * torch.exp(-8 * after.clamp_min(0)) * (after >= 0)
    return waveform


@dataclass(frozen=True)
class Variant:
    """A way to train a recipe.

    Attributes:
        name: for tables.
        form: of our autoencoder; None is the native reference.
        setting: of arithmetic.
    """

    name: str
    form: Form | None
    setting: Setting


class Trainee:
    """A model with its losses and its optimiser, which trains step by step.

    Args:
        recipe: what it trains.
        variant: how.
    """

    def __init__(self, recipe: Recipe, variant: Variant) -> None:
        self.recipe, self.setting = recipe, variant.setting
        ours, losses = recipe.build()
        self.losses = losses.to(recipe.device, self.setting.dtype)
        spec = recipe.checked.config.trainer.optimizer.model_dump()
        self.model: nn.Module
        self._noise = LatentNoise(recipe.checked.config.trainer.seed)
        self._loss: Callable[[Tensor, Tensor], Tensor]
        if variant.form is None:
            native = NativeAutoencoder(recipe.description, self.setting.dtype)
            load_ours(native, ours)
            weights = recipe.loss_weights()
            self.model = native.to(recipe.device)
            self._loss = lambda waveform, position: native(waveform).loss(weights)
        else:
            self.model = ours.to(recipe.device, self.setting.dtype)
            ours.set_form(variant.form)
            self._loss = lambda waveform, position: (
                self.losses(ours(waveform, self._noise.at(position, waveform.device))).total
            )
            spec["config"] = {**spec["config"], "fused": True}
        self.model.train()
        self.optimizer = build_optimizer(spec, self.model.parameters())
        self._steps = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass and its loss."""
        kind = self.recipe.device.type
        return torch.autocast(kind, torch.bfloat16) if self.setting.bf16 else nullcontext()

    def loss(self, waveform: Tensor) -> Tensor:
        """Return the loss of a batch, with its graph."""
        first = self._steps * waveform.shape[0]
        with self.autocast():
            return self._loss(waveform, torch.arange(first, first + waveform.shape[0]))

    def step(self) -> Tensor:
        """Train on the next batch and return its loss, detached; what `setting` says is active already."""
        batch = self.recipe.batches[self._steps % len(self.recipe.batches)]
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._steps += 1
        return loss.detach()

"""Which form a run computes in: by rules where it says auto, refused with the remedy where it cannot be had."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.compose import settle
from pipeline.errors import ConfigError
from pipeline.launch import form
from pipeline.launch.form import choose_form
from pipeline.launch.resources import Resources
from pipeline.models.form import Form
from pipeline.training.form import PLAIN, TrainingForm
from tests.config.compositions import compose

GPU = Resources(True, 1, 1, 32, 1)
FASTEST = Form(fold=True, compile=True, graphs=True)


@pytest.fixture
def a_gpu_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton and a C compiler are there, as on a machine with GPUs."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        form.importlib.util, "find_spec", lambda name: name if name == "triton" else find(name)
    )
    monkeypatch.setattr(form, "find_compiler", lambda: "gcc")


def chosen(*overrides: str, planned: Resources = GPU) -> tuple[TrainingForm, list[str]]:
    return choose_form(settle(compose(*overrides)), planned)


def test_a_cpu_computes_layer_by_layer() -> None:
    assert chosen(planned=replace(GPU, use_gpu=False)) == (PLAIN, [])
    assert str(PLAIN) == "layer by layer"


@pytest.mark.usefixtures("a_gpu_machine")
def test_a_gpu_takes_the_fastest_form() -> None:
    fastest, notes = chosen("experiment=full_size_complex")
    assert fastest == TrainingForm(FASTEST, fused_optimizer=True) and not notes
    assert str(fastest) == "folded, compiled, CUDA graphs; fused optimiser"


@pytest.mark.usefixtures("a_gpu_machine")
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.form.compile=false", Form()),
        ("trainer.form.fold=false", Form(compile=True, graphs=True)),
        ("trainer.form.cuda_graphs=false", Form(fold=True, compile=True)),
        ("model.encoder.config.norm=group_norm", Form(compile=True, graphs=True)),
        ("model.encoder.config.norm=batch_norm", Form()),
        ("model.encoder.config.sequence_model=lstm", Form()),
        ("model=PatchTransformer_real", Form()),
        ("model.autoencoder.chunk_frames=16", Form()),
        ("model.autoencoder.activation_checkpointing=true", Form()),
        ("trainer.precision=64-true", Form()),
        ("trainer.train_only=decoder", Form()),
        ("trainer.loss_balancer.enabled=true", Form(fold=True, compile=True)),
        ("trainer.strategy=deepspeed", Form(fold=True, compile=True)),
    ],
)
def test_what_a_gpu_takes_instead(override: str, expected: Form) -> None:
    found, notes = chosen(override)
    assert found.model == expected
    if not expected.compile and "form" not in override:
        assert "not compiled" in notes[0] and override.split("=")[0].split(".")[-1] in notes[0]


@pytest.mark.usefixtures("a_gpu_machine")
def test_gradients_that_add_up_are_not_in_graphs() -> None:
    assert chosen(planned=replace(GPU, accumulate=2))[0].model == Form(fold=True, compile=True)


def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(form.importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found, (note,) = chosen()
    assert found.model == Form() and found.fused_optimizer
    assert "C compiler" in note and "gcc" in note


def test_a_compiler_is_of_use_with_the_headers_of_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "clang-99")
    monkeypatch.setattr(form.sysconfig, "get_path", lambda name, scheme: str(tmp_path))
    assert form.find_compiler() is None
    (tmp_path / "Python.h").touch()
    assert form.find_compiler() == "clang-99"


@pytest.mark.usefixtures("a_gpu_machine")
@pytest.mark.parametrize(
    ("overrides", "planned", "words"),
    [
        (["trainer.form.compile=true"], replace(GPU, use_gpu=False), "on the CPU"),
        (["trainer.form.compile=true", "model.encoder.config.norm=spectral_norm"], GPU, "norm=spectral_norm"),
        (["trainer.form.fold=true", "model.encoder.config.norm=layer_norm"], GPU, "norm=layer_norm"),
        (["trainer.form.fold=true", "model=PatchTransformer_real"], GPU, "PatchTransformerEncoder"),
        (["trainer.form.cuda_graphs=true", "trainer.form.compile=false"], GPU, "trainer.form.compile"),
        (["trainer.form.cuda_graphs=true"], replace(GPU, accumulate=4), "accumulate_grad_batches"),
        (["trainer.form.fused_optimizer=true", "trainer.optimizer.type=RAdam"], GPU, "RAdam"),
        (
            ["trainer.form.fused_optimizer=true", "trainer.precision=16-mixed"],
            GPU,
            "trainer.trainer.gradient_clip_val",
        ),
        (["trainer.form.fused_optimizer=true", "trainer.optimizer.config.foreach=true"], GPU, "foreach"),
    ],
)
def test_what_cannot_be_had_is_refused(overrides: list[str], planned: Resources, words: str) -> None:
    with pytest.raises(ConfigError, match="valid: auto, false") as refusal:
        chosen(*overrides, planned=planned)
    assert words in str(refusal.value) and overrides[0].split("=")[0] in str(refusal.value)


@pytest.mark.parametrize("config", [{"fused": False}, {"foreach": True}])
def test_the_users_own_choice_of_a_step_stands(config: dict[str, Any]) -> None:
    words = [f"trainer.optimizer.config.{name}={str(value).lower()}" for name, value in config.items()]
    assert not chosen(*words)[0].fused_optimizer

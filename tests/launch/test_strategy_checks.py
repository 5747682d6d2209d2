"""What a strategy cannot do is refused with the remedy; which optimisers can be sharded is tried."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.config.compose import settle
from pipeline.errors import PipelineError
from pipeline.launch import preflight, strategy_checks
from pipeline.launch.report import strategy_name
from pipeline.training.optimizer import build_optimizer, optimizer_names
from tests.config.compositions import compose

ROOT = Path(__file__).resolve().parents[2]
DEEPSPEED = "trainer.num_gpus=0 trainer.num_processes=2 trainer.strategy=deepspeed"
DDP = "trainer.num_gpus=0 trainer.num_processes=2 trainer.strategy=ddp"
LBFGS = "trainer.optimizer.type=LBFGS trainer.optimizer.config.lr=1.0"
BY_DDP = "trainer.strategy=ddp"

# command line -> the keys at fault, and the remedy
REFUSED = {
    f"{DEEPSPEED} trainer.deepspeed.stage=0": ("trainer.deepspeed.stage=0", "valid: 1", BY_DDP),
    f"{DEEPSPEED} trainer.deepspeed.stage=3": (
        "trainer.deepspeed.stage=3",
        "shards the weights",
        "valid: 1",
        "2",
    ),
    f"{DEEPSPEED} trainer.deepspeed.stage=4": ("trainer.deepspeed.stage=4", "no stage 4", "valid: 1", "2"),
    f"{DEEPSPEED} trainer.deepspeed.offload_optimizer=true": (
        "trainer.deepspeed.offload_optimizer: unknown",
        "stage",
    ),
    f"{DEEPSPEED} trainer.deepspeed.reduce_bucket_size=0": ("reduce_bucket_size=0", "greater than 0"),
    f"{DEEPSPEED} trainer.deepspeed=none.json": (
        "trainer.deepspeed.config=none.json",
        "no such file",
        "DeepSpeed JSON",
    ),
    f"{DEEPSPEED} trainer.precision=64-true": ("trainer.precision=64-true", "32-true, bf16-mixed", BY_DDP),
    f"{DEEPSPEED} trainer.precision=16-mixed": ("trainer.precision=16-mixed", "32-true, bf16-mixed", BY_DDP),
    f"{DEEPSPEED} trainer.trainer.gradient_clip_algorithm=value": (
        "trainer.trainer.gradient_clip_algorithm=value",
        "valid: norm",
        "trainer.trainer.gradient_clip_val=0",
        BY_DDP,
    ),
    f"{DEEPSPEED} trainer.trainer.sync_batchnorm=true": (
        "trainer.trainer.sync_batchnorm=true",
        "valid: false",
    ),
    f"{DEEPSPEED} trainer.optimizer.type=Adafactor": ("trainer.optimizer.type=Adafactor", "AdamW", BY_DDP),
    f"{DEEPSPEED} trainer.optimizer.type=Adagrad": ("trainer.optimizer.type=Adagrad", "AdamW", BY_DDP),
    f"{DEEPSPEED} {LBFGS}": ("trainer.optimizer.type=LBFGS", "AdamW", BY_DDP),
    f"{DEEPSPEED} trainer.optimizer.type=Muon": ("trainer.optimizer.type='Muon'", "Valid: ASGD"),
    f"{DEEPSPEED} trainer.optimizer.config.capturable=true": (
        "capturable=True needs weights on a GPU",
        "valid: false",
    ),
    f"{DEEPSPEED} trainer.optimizer.config.differentiable=true": ("config.differentiable", "cannot be set"),
    f"{DEEPSPEED} trainer.trainer.strategy=deepspeed": ("trainer.trainer.strategy", "trainer.strategy"),
    f"{DDP} {LBFGS}": ("trainer.optimizer.type=LBFGS", "use one"),
    f"{DDP} trainer.global_batch_size=15": ("trainer.global_batch_size=15", "a multiple of 2"),
    f"{DDP} trainer.precision=16-mixed": ("trainer.precision=16-mixed", "32-true, bf16-mixed"),
    "trainer.strategy=zero": ("trainer.strategy='zero'", "valid: auto, ddp, deepspeed"),
    "trainer.strategy=[ddp]": ("trainer.strategy=['ddp']", "valid string"),
}


def check(line):
    composition = compose(*shlex.split(line))
    return preflight.check(settle(composition), composition.given)


@pytest.mark.parametrize("line", REFUSED)
def test_a_combination_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError) as refusal:
        check(line)
    assert not [part for part in REFUSED[line] if part not in str(refusal.value)], refusal.value
    assert list(tmp_path.iterdir()) == []


VALID = [
    f"{DEEPSPEED} trainer.deepspeed.stage=1",
    f"{DEEPSPEED} trainer.precision=bf16-mixed trainer.trainer.accumulate_grad_batches=4",
    f"{DEEPSPEED} trainer.trainer.gradient_clip_algorithm=value trainer.trainer.gradient_clip_val=0",
    f"{DEEPSPEED} trainer.scheduler.type=ReduceLROnPlateau",
    f"{DEEPSPEED} trainer.optimizer.type=SGD trainer.optimizer.config.momentum=0.9",
    f"{DDP} trainer.optimizer.type=Adafactor",
    f"{DDP} trainer.precision=64-true trainer.trainer.gradient_clip_algorithm=value",
]


@pytest.mark.parametrize("line", VALID)
def test_a_combination_is_taken(line):
    assert not [note for note in check(line).notes if "deepspeed" in note]


def test_what_has_no_effect_is_said():
    (note,) = [note for note in check(f"{DDP} trainer.deepspeed.stage=2").notes if "deepspeed" in note]
    assert note.startswith("trainer.deepspeed.stage has no effect: trainer.strategy=ddp")
    (note,) = [note for note in check(f"{DEEPSPEED} trainer.num_processes=1").notes if "deepspeed" in note]
    assert "one process" in note


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"{DEEPSPEED} trainer.deepspeed.stage=1", "strategy deepspeed, ZeRO stage 1"),
        (f"{DDP} trainer.strategy=auto", "strategy ddp"),
        ("trainer.num_gpus=0", "strategy auto"),
        ("trainer.num_gpus=0 trainer.strategy=ddp", "strategy ddp"),
    ],
)
def test_the_start_says_which_strategy(line, name):
    assert strategy_name(check(line)) == name


def test_a_missing_package_is_named(monkeypatch):
    config = settle(compose(*shlex.split(DEEPSPEED)))
    strategy_checks.check(config)
    for name in [name for name in sys.modules if name.split(".")[0] == "deepspeed"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    with pytest.raises(
        PipelineError, match=r"^trainer\.strategy=deepspeed: .*make env.*trainer\.strategy=ddp"
    ):
        strategy_checks.check(config)


SHAPES = ((3, 2, 3, 3), (3,), (4, 3, 3))
STEPS = 6


def trained(name, make_weights):
    """Weights laid end to end, after some steps that follow prescribed gradients."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in SHAPES]
    gradients = [[torch.randn(shape, generator=generator) for shape in SHAPES] for _ in range(STEPS)]
    results = []
    for weights, cut in make_weights(start):
        optimizer = build_optimizer({"type": name, "config": {"lr": 0.05}}, weights)
        for step in gradients:
            for weight, gradient in zip(weights, cut(step), strict=True):
                weight.grad = gradient.clone()
            optimizer.step(lambda: torch.ones(()))
        results += [weight.detach().flatten() for weight in weights]
    return torch.cat(results)


def whole(tensors):
    yield [torch.nn.Parameter(tensor.clone()) for tensor in tensors], lambda step: step


def two_shards(tensors):
    """Two halves of all weights laid end to end, the border within a weight."""

    def flat(tensors):
        return torch.cat([tensor.flatten() for tensor in tensors])

    border = flat(tensors).numel() // 2
    for part in (slice(border), slice(border, None)):
        yield [torch.nn.Parameter(flat(tensors)[part].clone())], lambda step, part=part: [flat(step)[part]]


@pytest.mark.parametrize("name", optimizer_names())
def test_which_optimisers_can_be_sharded(name):
    is_same = torch.allclose(trained(name, whole), trained(name, two_shards), rtol=1e-6, atol=1e-7)
    refused_for_its_arithmetic = set(strategy_checks.UNSHARDED_OPTIMIZERS) - {"Adagrad"}
    assert is_same is (name not in refused_for_its_arithmetic)


@pytest.mark.long
def test_what_deepspeed_does_with_them(tmp_path):
    """The weights are the same to the last bit, but for Adagrad, whose learning rate stands still."""
    names = [name for name in optimizer_names() if name != "LBFGS"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.sharded_optimizers", str(tmp_path / "store"), *names]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    differences = json.loads(ended.stdout.splitlines()[-1])
    refused = set(strategy_checks.UNSHARDED_OPTIMIZERS)
    assert {name: differences[name] for name in names if name not in refused} == {
        name: 0.0 for name in names if name not in refused
    }
    assert differences["Adagrad"] > 1e-3 and differences["Adafactor"] > 1e-3

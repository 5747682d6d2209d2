"""The rules of `trainer.loss_config`."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.losses.plan import plan_losses

GUIDE = {
    "spectral": {"stft_mse": {"config": {"reduction": "mean"}}, "weights": {"stft_mse": 1.0}},
    "bottleneck": {"weights": {"kl": 1.0}},
}


def plan(config, keys=("kl",)):
    return plan_losses(config, keys)


def test_guide_block():
    found = plan(GUIDE)
    assert [tuple(loss) for loss in found.active] == [
        ("spectral", "stft_mse", {"reduction": "mean"}, 1.0, 0, 1.0),
        ("bottleneck", "kl", {}, 1.0, 0, 1.0),
    ]
    assert found.disabled == () and found.notes == ()


@pytest.mark.parametrize("entry", [None, {}, {"config": None}, {"config": {}}])
def test_empty_entries_take_the_defaults(entry):
    found = plan({"time": {"l1": entry, "weights": {"l1": 2}}}, ())
    assert [tuple(loss) for loss in found.active] == [("time", "l1", {"reduction": "mean"}, 2.0, 0, 1.0)]


def test_weight_zero_disables():
    found = plan({**GUIDE, "time": {"l1": {}, "l2": {}, "weights": {"l1": 0, "l2": 1.0}}})
    assert found.disabled == ("time/l1",)
    assert [loss.name for loss in found.active] == ["stft_mse", "kl", "l2"]


def test_weight_zero_needs_no_entry():
    assert plan({**GUIDE, "time": {"weights": {"l1": 0.0}}}).disabled == ("time/l1",)


def test_kl_weight_without_kl_is_announced():
    found = plan(GUIDE, ())
    assert [loss.name for loss in found.active] == ["stft_mse"]
    assert len(found.notes) == 1 and "trainer.loss_config.bottleneck.weights.kl is ignored" in found.notes[0]


def test_vae_without_kl_weight_is_reported():
    found = plan({"spectral": GUIDE["spectral"]})
    assert len(found.notes) == 1 and "trainer.loss_config.bottleneck.weights.kl" in found.notes[0]


def test_kl_of_weight_zero_is_disabled_and_not_reported():
    found = plan({**GUIDE, "bottleneck": {"weights": {"kl": 0.0}}})
    assert found.disabled == ("bottleneck/kl",) and found.notes == ()


def test_kl_alone_is_reported():
    assert any("reconstruction" in note for note in plan({"bottleneck": GUIDE["bottleneck"]}).notes)


REFUSED = {
    "unknown family": ({"spectrl": {}}, "trainer.loss_config.spectrl: ", "did you mean 'spectral'"),
    "unknown loss": (
        {"time": {"l3": {}}},
        "trainer.loss_config.time.l3: ",
        "l1, l1_mid_side, l2, warmup, weights",
    ),
    "loss of another family": ({"spectral": {"l1": {}}}, "trainer.loss_config.spectral.l1: ", "config.time."),
    "unknown weight": (
        {"spectral": {"stft_mse": {}, "weights": {"stft_mse": 1.0, "stft_mes": 1.0}}},
        "trainer.loss_config.spectral.weights.stft_mes: ",
        "did you mean 'stft_mse'",
    ),
    "missing weight": ({"time": {"l1": {}}}, "trainer.loss_config.time.weights.l1: ", "missing"),
    "missing weight beside others": (
        {"time": {"l1": {}, "l2": {}, "weights": {"l1": 1.0}}},
        "trainer.loss_config.time.weights.l2: ",
        "missing",
    ),
    "weight without loss": (
        {"time": {"weights": {"l1": 1.0}}},
        "trainer.loss_config.time.weights.l1=1.0: ",
        "trainer.loss_config.time.l1={}",
    ),
    "negative": (
        {"time": {"l1": {}, "weights": {"l1": -1}}},
        "trainer.loss_config.time.weights.l1=-1: ",
        "0",
    ),
    "text": (
        {"time": {"l1": {}, "weights": {"l1": "big"}}},
        "trainer.loss_config.time.weights.l1='big': ",
        "0",
    ),
    "null": (
        {"time": {"l1": {}, "weights": {"l1": None}}},
        "trainer.loss_config.time.weights.l1=None: ",
        "0",
    ),
    "truth": (
        {"time": {"l1": {}, "weights": {"l1": True}}},
        "trainer.loss_config.time.weights.l1=True: ",
        "0",
    ),
    "nan": (
        {"time": {"l1": {}, "weights": {"l1": float("nan")}}},
        "trainer.loss_config.time.weights.l1=nan: ",
        "0",
    ),
    "all zero": ({"time": {"l1": {}, "weights": {"l1": 0}}}, "trainer.loss_config: ", "positive weight"),
    "nothing": ({}, "trainer.loss_config: ", "positive weight"),
    "negative kl": (
        {"bottleneck": {"weights": {"kl": -1.0}}},
        "trainer.loss_config.bottleneck.weights.kl=-1.0",
        "0",
    ),
    "argument outside config": (
        {"time": {"l1": {"reduction": "sum"}, "weights": {"l1": 1.0}}},
        "trainer.loss_config.time.l1.reduction: ",
        "valid: config",
    ),
    "unknown argument": (
        {"time": {"l1": {"config": {"reductoin": "sum"}}, "weights": {"l1": 1.0}}},
        "trainer.loss_config.time.l1.config.reductoin: ",
        "did you mean 'reduction'",
    ),
    "unknown argument of a disabled loss": (
        {**GUIDE, "time": {"l1": {"config": {"foo": 1}}, "weights": {"l1": 0}}},
        "trainer.loss_config.time.l1.config.foo: ",
        "reduction",
    ),
    "wrong choice": (
        {"time": {"l1": {"config": {"reduction": "none"}}, "weights": {"l1": 1.0}}},
        "trainer.loss_config.time.l1.config.reduction='none': ",
        "'mean' or 'sum'",
    ),
    "program's argument": (
        {"mel": {"mrmel": {"config": {"sample_rate_hz": 8000}}, "weights": {"mrmel": 1.0}}},
        "trainer.loss_config.mel.mrmel.config.sample_rate_hz: ",
        "fft_sizes",
    ),
    "unequal lists": (
        {"spectral": {"mrstft": {"config": {"hop_sizes": [128]}}, "weights": {"mrstft": 1.0}}},
        "trainer.loss_config.spectral.mrstft.config.hop_sizes ",
        "1 entries, fft_sizes 3",
    ),
    "too many mel bands": (
        {"mel": {"mrmel": {"config": {"fft_sizes": [64], "n_mels": [64]}}, "weights": {"mrmel": 1.0}}},
        "trainer.loss_config.mel.mrmel.config.n_mels: ",
        "33",
    ),
    "too many mel bands of an STFT": (
        {
            "spectral": {
                "mrstft": {"config": {"fft_sizes": [64], "n_mels": [34]}},
                "weights": {"mrstft": 1.0},
            }
        },
        "trainer.loss_config.spectral.mrstft.config.n_mels: ",
        "33",
    ),
    "warmup of no weight": (
        {"time": {"l1": {}, "weights": {"l1": 1.0}, "warmup": {"l2": 10}}},
        "trainer.loss_config.time.warmup.l2: ",
        "Valid: l1",
    ),
    "warmup in parts of a step": (
        {"time": {"l1": {}, "weights": {"l1": 1.0}, "warmup": {"l1": 1.5}}},
        "trainer.loss_config.time.warmup.l1=1.5: ",
        "whole number",
    ),
    "growing decay": (
        {"time": {"l1": {}, "weights": {"l1": 1.0}, "decay": {"l1": 1.01}}},
        "trainer.loss_config.time.decay.l1=1.01: ",
        "at most 1",
    ),
    "no block": ({"time": 3}, "trainer.loss_config.time=3: ", "block"),
    "weights no block": (
        {"time": {"l1": {}, "weights": 1.0}},
        "trainer.loss_config.time.weights=1.0: ",
        "block",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_lead_with_the_path_and_name_the_choices(case):
    config, path, detail = REFUSED[case]
    with pytest.raises(ConfigError) as error:
        plan(config)
    assert str(error.value).startswith(path)
    assert detail in str(error.value)


def test_weights_may_change():
    changes = {"weights": {"kl": 0.5}, "warmup": {"kl": 100}, "decay": {"kl": 0.99}}
    (_, kl) = plan({**GUIDE, "bottleneck": changes}).active
    assert (kl.weight, kl.warmup, kl.decay) == (0.5, 100, 0.99)
    assert str(kl.schedule) == "0.5, rising over 100 steps, times 0.99 a step"


def test_stereo_losses_need_stereo():
    config = {"time": {"l1_mid_side": {}, "weights": {"l1_mid_side": 1.0}}}
    assert plan_losses(config, (), channels=2).active
    with pytest.raises(ConfigError, match=r"^trainer.loss_config.time.l1_mid_side: .*data.channels=1"):
        plan_losses(config, (), channels=1)


def test_imports_no_torch():
    program = (
        "import sys; from pipeline.losses.plan import plan_losses;"
        "plan_losses({'spectral': {'mrstft': {}, 'weights': {'mrstft': 1.0}}}, ());"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0

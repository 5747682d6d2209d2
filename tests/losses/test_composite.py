"""The weighted sum of losses."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.losses import LOSSES
from pipeline.losses.composite import build_losses
from pipeline.losses.plan import LossPlan, PlannedLoss, plan_losses
from pipeline.losses.time import L1


@dataclass
class Output:
    """Stands for the model's output and notes whether the waveform was asked for."""

    estimate_spectrogram: Tensor
    reference_spectrogram: Tensor
    loss_info: dict[str, Tensor]
    reference_waveform: Tensor
    synthesised: list[bool] = field(default_factory=list)

    @property
    def waveform(self):
        self.synthesised.append(True)
        return self.reference_waveform + 1.0


@pytest.fixture
def output():
    spectrogram = torch.zeros(2, 2, 5, 4)
    return Output(
        (spectrogram + 1.0).requires_grad_(), spectrogram, {"kl": torch.tensor(4.0)}, torch.zeros(2, 2, 600)
    )


def build(config):
    return build_losses(plan_losses(config, ("kl",)), sample_rate_hz=8000)


def test_weighted_sum(output):
    losses = build(
        {
            "spectral": {"stft_mse": None, "weights": {"stft_mse": 0.5}},
            "time": {"l1": None, "l2": {}, "weights": {"l1": 3.0, "l2": 0.0}},
            "bottleneck": {"weights": {"kl": 0.25}},
        }
    )
    report = losses(output)
    assert {name: value.item() for name, value in report.values.items()} == {
        "spectral/stft_mse": 2.0,
        "time/l1": 1.0,
        "bottleneck/kl": 4.0,
    }
    assert {name: value.item() for name, value in report.weighted.items()} == {
        "spectral/stft_mse": 1.0,
        "time/l1": 3.0,
        "bottleneck/kl": 1.0,
    }
    assert report.total.item() == 5.0
    report.total.backward()
    assert output.estimate_spectrogram.grad.abs().sum() > 0
    assert not any(value.requires_grad for value in (*report.values.values(), *report.weighted.values()))


def test_weights_follow_the_step(output):
    changes = {"weights": {"l1": 3.0}, "warmup": {"l1": 4}, "decay": {"l1": 0.5}}
    losses = build({"time": {"l1": None, **changes}})
    found = [losses(output, step).total.item() for step in range(6)]
    assert found == [3.0 * min(1.0, (step + 1) / 4) * 0.5**step for step in range(6)]
    constant = build({"time": {"l1": None, "weights": {"l1": 0.1}}})
    assert {weight.at(step) for weight in constant.weights for step in (0, 1, 12345)} == {0.1}


def test_waveform_is_not_synthesised_for_spectral_losses(output):
    build({"spectral": {"stft_mse": None, "weights": {"stft_mse": 1.0}}})(output)
    assert output.synthesised == []


def test_terms_of_weight_zero_compute_nothing(output, monkeypatch):
    def refuse(*ignored):
        raise AssertionError("computed in vain")

    monkeypatch.setattr("pipeline.losses.time.L2.per_example", refuse)
    monkeypatch.setattr("pipeline.losses.spectral.spectral_convergence", refuse)
    monkeypatch.setattr("torch.Tensor.log10", refuse)
    inner = {"w_sc": 0.0, "w_lin_mag": 1.0, "fft_sizes": [64]}
    losses = build(
        {
            "time": {"l1": None, "l2": None, "weights": {"l1": 1.0, "l2": 0.0}},
            "spectral": {"mrstft": {"config": inner}, "weights": {"mrstft": 1.0}},
            "mel": {
                "mrmel": {"config": {"fft_sizes": [64], "n_mels": [5], "log_weight": 0.0, "mag_weight": 1.0}},
                "weights": {"mrmel": 1.0},
            },
            "bottleneck": {"weights": {"kl": 0.0}},
        }
    )
    assert set(losses(output).values) == {"time/l1", "spectral/mrstft", "mel/mrmel"}


def test_mid_and_side_are_computed_together_if_both_are_wanted(output, monkeypatch):
    examples = []
    per_example = L1.per_example

    def noted(loss, estimate, reference):
        examples.append(len(estimate))
        return per_example(loss, estimate, reference)

    monkeypatch.setattr(L1, "per_example", noted)
    for config in ({}, {"w_side": 0.0}, {"w_mid": 0.0}):
        build({"time": {"l1_mid_side": {"config": config}, "weights": {"l1_mid_side": 1.0}}})(output)
    assert examples == [4, 2, 2]


def test_every_registered_loss_builds_and_runs(output):
    config = {
        family: {**dict.fromkeys(names), "weights": dict.fromkeys(names, 1.0)}
        for family, names in LOSSES.items()
    }
    report = build(config)(output)
    assert set(report.values) == {f"{family}/{name}" for family, names in LOSSES.items() for name in names}
    assert report.total.isfinite()


def test_constructor_refusals_carry_the_path():
    refused = PlannedLoss("spectral", "mrstft", {"w_sc": 0.0, "w_log_mag": 0.0}, 1.0)
    with pytest.raises(ConfigError, match="^trainer.loss_config.spectral.mrstft.config.w_sc"):
        build_losses(LossPlan((refused,), (), ()), sample_rate_hz=8000)

"""Metrics: hand-worked values, silence, uneven batches and processes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigError, ShapeError
from pipeline.evaluation import HIGHER_IS_BETTER, METRICS
from pipeline.evaluation.metrics import MelDistance, SiSdr, StftDistance, build_metrics
from pipeline.evaluation.plan import plan_metrics

ROOT = Path(__file__).parents[2]
RATE_HZ = 8000
SIZES = {"fft_size": 128, "hop_size": 32, "win_length": 128}
CONFIG = {"sisdr": {}, "stft": {**SIZES, "sample_rate": RATE_HZ}, "mel": {**SIZES, "n_mels": 16}}


def build(config=None):
    return build_metrics(plan_metrics(config or CONFIG, RATE_HZ), sample_rate_hz=RATE_HZ)


def pair(num_examples=10, channels=2):
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(num_examples, channels, 1000, generator=generator)
    return reference + 0.1 * torch.randn(reference.shape, generator=generator), reference


def averages(batch_sizes, metrics=None):
    metrics = metrics or build()
    estimate, reference = pair(sum(batch_sizes))
    for batch in zip(estimate.split(batch_sizes), reference.split(batch_sizes), strict=True):
        metrics.update(*batch)
    report = metrics.compute()
    return {name: value.item() for name, value in report.values.items()}


def test_every_metric_has_a_direction():
    assert set(METRICS) == set(HIGHER_IS_BETTER)


def test_sisdr_by_hand():
    """With r = (1, -1, 1, -1) and e = 2 r + (1, 1, -1, -1), orthogonal to r: 10 log10(16 / 4) dB."""
    reference = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])
    estimate = 2 * reference + torch.tensor([1.0, 1.0, -1.0, -1.0])
    for zero_mean in (True, False):
        value = SiSdr(zero_mean=zero_mean).per_example(estimate, reference)
        assert value.tolist() == pytest.approx([10 * math.log10(4)], abs=1e-5)


def test_sisdr_zero_mean():
    """An offset of the estimate is noise unless the means are subtracted."""
    reference = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])
    estimate = reference + 1.0
    assert SiSdr(zero_mean=False).per_example(estimate, reference).item() == pytest.approx(0.0, abs=1e-5)
    assert SiSdr(zero_mean=True).per_example(estimate, reference).item() == pytest.approx(100.0)


def test_sisdr_is_scale_invariant():
    estimate, reference = pair()
    values = SiSdr().per_example(estimate, reference)
    assert values.tolist() == pytest.approx(
        SiSdr().per_example(0.01 * estimate, reference).tolist(), abs=1e-3
    )
    assert values.mean().item() == pytest.approx(20.0, abs=0.5)


def test_sisdr_reduces_channels():
    reference = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]]).repeat(1, 2, 1)
    estimate = reference + torch.tensor([[1.0, 1.0, -1.0, -1.0], [0.1, 0.1, -0.1, -0.1]])
    assert SiSdr(reduction="mean").per_example(estimate, reference).item() == pytest.approx(10.0, abs=1e-4)
    assert SiSdr(reduction="sum").per_example(estimate, reference).item() == pytest.approx(20.0, abs=1e-4)


def test_sisdr_of_silent_estimates_is_the_worst():
    _, reference = pair()
    assert SiSdr().per_example(torch.zeros_like(reference), reference).tolist() == pytest.approx(
        [-100.0] * 10
    )


def test_silent_references_are_left_out_and_counted():
    estimate, reference = pair()
    expected = SiSdr().per_example(estimate[:8], reference[:8]).mean().item()
    reference[8:] = 0.0
    metrics = build()
    metrics.update(estimate, reference)
    report = metrics.compute()
    assert report.values["sisdr"].item() == pytest.approx(expected)
    assert {name: int(count) for name, count in report.left_out.items()} == {"sisdr": 2, "stft": 0, "mel": 0}
    assert all(value.isfinite() for value in report.values.values())


def test_one_silent_channel_is_left_out():
    estimate, reference = pair(1)
    expected = SiSdr().per_example(estimate[:, :1], reference[:, :1]).item()
    reference[:, 1] = 0.0
    assert SiSdr().per_example(estimate, reference).item() == pytest.approx(expected)
    assert SiSdr().counts(reference).tolist() == [True]


def test_a_diverged_estimate_shows():
    estimate, reference = pair()
    estimate[3, 0, 5] = float("nan")
    metrics = build()
    metrics.update(estimate, reference)
    assert all(value.isnan() for value in metrics.compute().values.values())


def test_only_silence_gives_nan():
    metrics = build({"sisdr": None})
    metrics.update(torch.zeros(2, 1, 100), torch.zeros(2, 1, 100))
    assert metrics.compute().values["sisdr"].isnan()


def test_stft_distance_of_a_halved_signal():
    """SC is 0.5, and each log magnitude differs by ln 2."""
    _, reference = pair()
    distance = StftDistance(**SIZES, sample_rate_hz=RATE_HZ)
    assert distance.per_example(reference, reference).tolist() == [0.0] * 10
    expected = [0.5 + math.log(2)] * 10
    assert distance.per_example(0.5 * reference, reference).tolist() == pytest.approx(expected, rel=1e-3)


def test_mel_distance_of_a_tenth_of_a_signal():
    _, reference = pair()
    distance = MelDistance(**SIZES, n_mels=16, sample_rate_hz=RATE_HZ)
    assert distance.per_example(reference, reference).tolist() == [0.0] * 10
    assert distance.per_example(0.1 * reference, reference).tolist() == pytest.approx([1.0] * 10, rel=1e-3)


@pytest.mark.parametrize("batch_sizes", [[4, 4, 2], [1] * 10, [9, 1]])
def test_uneven_batches(batch_sizes):
    assert averages(batch_sizes) == pytest.approx(averages([10]), rel=1e-6)


def test_reset_starts_afresh():
    metrics = build()
    metrics.update(torch.zeros(3, 2, 1000), pair(3)[1])
    metrics.compute()
    metrics.reset()
    assert averages([10], metrics) == pytest.approx(averages([10]))


def test_inside_autocast_and_half_precision():
    estimate, reference = pair()
    metrics = build()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        metrics.update(estimate.bfloat16(), reference.bfloat16())
    found = metrics.compute().values
    metrics = build()
    metrics.update(estimate.bfloat16().float(), reference.bfloat16().float())
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in metrics.compute().values.items()}, rel=1e-5
    )


def test_nothing_goes_into_a_checkpoint():
    assert not build().state_dict()


@pytest.mark.parametrize("shapes", [((2, 1, 9), (2, 1, 8)), ((2, 9), (2, 9))])
def test_shapes(shapes):
    with pytest.raises(ShapeError, match=r"\(2, "):
        build().update(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sisrd": {}}, "^trainer.eval_loss_config.sisrd: .*did you mean 'sisdr'"),
        ({"sisdr": {"zero_meen": True}}, "^trainer.eval_loss_config.sisdr.zero_meen: .*'zero_mean'"),
        (
            {"sisdr": {"reduction": "none"}},
            "^trainer.eval_loss_config.sisdr.reduction='none': .*'mean' or 'sum'",
        ),
        ({"stft": None}, "^trainer.eval_loss_config.stft.fft_size: required"),
        (
            {"stft": {**SIZES, "sample_rate": 44100}},
            "^trainer.eval_loss_config.stft.sample_rate=44100 .*data.sample_rate_hz=8000",
        ),
        (
            {"stft": {**SIZES, "hop_size": 100}},
            "^trainer.eval_loss_config.stft.fft_size, hop_size.* hop_length=100",
        ),
        ({"mel": {**SIZES, "n_mels": 100}}, "^trainer.eval_loss_config.mel.n_mels: 100 .* 65"),
    ],
)
def test_plan_refuses_with_the_path_first(config, message):
    with pytest.raises(ConfigError, match=message):
        plan_metrics(config, RATE_HZ)


def test_guide_block_is_accepted():
    config = {
        "sisdr": {"zero_mean": True, "reduction": "mean"},
        "stft": {"sample_rate": 44100, "fft_size": 2048, "hop_size": 512, "win_length": 2048},
        "mel": {"fft_size": 2048, "hop_size": 512, "win_length": 2048, "n_mels": 128},
    }
    assert set(build_metrics(plan_metrics(config, 44100), sample_rate_hz=44100).metrics) == set(config)


def test_constructors_refuse_too():
    with pytest.raises(ConfigError, match="^sample_rate=44100"):
        StftDistance(**SIZES, sample_rate=44100, sample_rate_hz=RATE_HZ)


def test_plan_imports_no_torch():
    program = (
        "import sys; from pipeline.evaluation.plan import plan_metrics;"
        "plan_metrics({'sisdr': {}}, 8000); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_two_processes_with_uneven_shares(tmp_path):
    """Seven and three examples, in uneven batches: both processes report the average over all ten."""
    program = Path(__file__).with_name("two_processes.py")
    commands = [[sys.executable, str(program), str(rank), str(tmp_path / "rendezvous")] for rank in (0, 1)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for command in commands]
    reports = [
        dict(line.split() for line in process.communicate(timeout=120)[0].splitlines()) for process in running
    ]
    assert [process.returncode for process in running] == [0, 0]
    assert reports[0] == reports[1]
    assert {name: float(value) for name, value in reports[0].items()} == pytest.approx(
        averages([10]), rel=1e-6
    )

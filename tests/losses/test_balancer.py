"""Loss balancing against the formula in float64, however a step is cut into batches and ranks."""

from dataclasses import dataclass

import pytest
import torch

from pipeline.losses.balancer import Alone
from pipeline.losses.composite import build_losses
from pipeline.losses.plan import plan_losses

WEIGHTS = {"stft_mse": 3.0, "phase_cosine": 1.0}
DECAY, TOTAL = 0.9, 2.0


@dataclass
class Output:
    """A model whose only layer is `gain`."""

    estimate_spectrogram: torch.Tensor
    reference_spectrogram: torch.Tensor
    loss_info: dict[str, torch.Tensor]


@dataclass
class Rank:
    """One of several ranks, whose sums over all are known."""

    is_first: bool
    others: list[torch.Tensor]

    def total(self, values):
        return values + sum(self.others) if self.others else values


def build():
    return build_losses(
        plan_losses(
            {
                "spectral": {"stft_mse": None, "phase_cosine": None, "weights": WEIGHTS},
                "bottleneck": {"weights": {"kl": 0.5}},
            },
            ("kl",),
        ),
        sample_rate_hz=8000,
        balance=(TOTAL, DECAY),
    )


def batch(step, size=4):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2, size, 4, 5, 3, generator=generator, dtype=torch.float64) * (1 + step)


def output_of(gain, inputs, references):
    estimate = gain * inputs
    return Output(estimate, references, {"kl": gain.square().sum()})


def reference_gradients(gain, inputs, references):
    """Gradient of each example's own terms at the estimate: (terms, B, ...), written out by hand."""
    estimate = (gain * inputs).detach()
    mse = 2 * (estimate - references) / references[0, :2].numel()
    found, wanted = (torch.complex(x[:, :2], x[:, 2:]) for x in (estimate, references))
    weight = wanted.abs() / wanted.abs().sum((1, 2, 3), keepdim=True)
    # d/dE of 1 - cos(arg E - arg R) is sin(arg E - arg R) * i e^{i arg E} / |E|
    turn = (
        weight * torch.sin(found.angle() - wanted.angle()) * 1j * torch.exp(1j * found.angle()) / found.abs()
    )
    return torch.stack([mse, torch.cat([turn.real, turn.imag], 1)])


def expected_gradients(gain, steps):
    """d loss / d gain of each step, by the formula of the class."""
    running, updates, found = torch.zeros(2, dtype=torch.float64), 0.0, []
    shares = torch.tensor([0.75, 0.25], dtype=torch.float64)
    for step in range(steps):
        inputs, references = batch(step)
        gradients = reference_gradients(gain, inputs, references)
        norms = gradients.flatten(2).norm(dim=2)  # (terms, B)
        average = norms[:, 0] if step == 0 else running / updates
        pull = torch.einsum("t,tbcfn->bcfn", TOTAL * shares / average, gradients) / inputs.shape[0]
        found.append((pull * inputs).sum((0, 2, 3)) + 0.5 * 2 * gain.detach()[0, :, 0, 0])
        running, updates = DECAY * running + norms.mean(1), DECAY * updates + 1
    return found


def new_gain():
    return torch.full((1, 4, 1, 1), 0.7, dtype=torch.float64, requires_grad=True)


def test_gradients_are_those_of_the_formula():
    losses, gain = build(), new_gain()
    for step, expected in enumerate(expected_gradients(gain, 4)):
        gain.grad = None
        report = losses(output_of(gain, *batch(step)), step)
        report.total.backward()
        losses.balancer.note(report.norms)
        losses.balancer.settle(Alone())
        torch.testing.assert_close(gain.grad[0, :, 0, 0], expected, rtol=1e-9, atol=1e-12)
        assert report.total.item() == pytest.approx(
            sum(v.item() for v in report.weighted.values()), rel=1e-12
        )
        assert report.weighted["bottleneck/kl"].item() == pytest.approx(0.5 * 4 * 0.49)


def test_batches_of_a_step_and_ranks_do_not_show():
    """Four examples at once; two batches of two; two ranks with two batches of one each."""
    whole, halves = build(), build()
    ranks = [build(), build()]
    gains = [new_gain() for _ in range(3)]
    for step in range(3):
        inputs, references = batch(step)
        for gain in gains:
            gain.grad = None
        report = whole(output_of(gains[0], inputs, references), step)
        report.total.backward()
        whole.balancer.note(report.norms)
        whole.balancer.settle(Alone())
        for half in (slice(0, 2), slice(2, 4)):
            report = halves(output_of(gains[1], inputs[half], references[half]), step)
            (report.total / 2).backward()
            halves.balancer.note(report.norms)
        halves.balancer.settle(Alone())
        first = None
        for micro in range(2):
            for number, losses in enumerate(ranks):
                own = slice(2 * micro + number, 2 * micro + number + 1)
                others = [first] if step == 0 and number == 1 and micro == 0 else []
                report = losses(
                    output_of(gains[2], inputs[own], references[own]), step, Rank(number == 0, others)
                )
                (report.total / 4).backward()
                losses.balancer.note(report.norms)
                first = report.norms.first
        pending = [losses.balancer._pending for losses in ranks]
        for number, losses in enumerate(ranks):
            losses.balancer.settle(Rank(number == 0, [pending[1 - number]]))
        for gain in gains[1:]:
            torch.testing.assert_close(gain.grad, gains[0].grad, rtol=1e-10, atol=1e-13)
        for other in (halves, *ranks):
            torch.testing.assert_close(other.balancer.norms, whole.balancer.norms, rtol=1e-12, atol=0)


def test_the_scale_of_a_loss_does_not_matter():
    """A loss a million times as large gets the same share."""
    results = []
    for factor in (1.0, 1e6):
        losses, gain = build(), new_gain()
        plain = losses.losses[0].per_example
        losses.losses[0].per_example = lambda e, r, plain=plain, factor=factor: factor * plain(e, r)
        for step in range(2):
            gain.grad = None
            report = losses(output_of(gain, *batch(step)), step)
            report.total.backward()
            losses.balancer.note(report.norms)
            losses.balancer.settle(Alone())
        results.append(gain.grad)
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_what_is_not_finite_or_has_no_gradient():
    losses, gain = build(), new_gain()
    inputs, references = batch(0)
    report = losses(
        output_of(gain, inputs, (gain * inputs).detach()), 0
    )  # the estimate is right: no pull at all
    report.total.backward()
    assert gain.grad.isfinite().all()
    losses.balancer.note(report.norms)
    losses.balancer.settle(Alone())
    before = losses.balancer.norms.clone()
    losses.balancer.note(losses(output_of(gain, inputs * float("inf"), references), 1).norms)
    losses.balancer.settle(Alone())
    assert torch.equal(losses.balancer.norms, before) and losses.balancer.updates.item() == 1


def test_only_the_running_means_are_stored():
    assert {name: tuple(value.shape) for name, value in build().state_dict().items()} == {
        "balancer.norms": (2,),
        "balancer.updates": (1,),
    }

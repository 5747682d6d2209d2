"""Killed runs end as undisturbed ones; the long version is `make chaos`."""

import csv
import signal

import pytest
import torch

from tests.integration.chaos import checker, table
from tests.integration.chaos.campaign import Campaign
from tests.integration.chaos.configurations import PAIR, SAVING, SINGLE, STRATEGIES
from tests.integration.chaos.outcome import Hit, Result
from tests.integration.chaos.plan import CATEGORIES, WRITE, Case, Strike, draw_kills

MIDDLE = SINGLE[2]  # validates in the midst of epochs, ends them early


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, cache_dir):
    made = Campaign(tmp_path_factory.mktemp("chaos"), cache_dir, lanes=1)
    yield made
    made.close()


def _kill(how, stage, occurrence, rank=0):
    return Strike(how, signal.SIGKILL, stage, occurrence, delay_s=0.0, rank=rank)


def test_killed_runs_end_as_undisturbed_ones(campaign):
    kills = (_kill("process", WRITE, 3), _kill("job", "validation", 1), _kill("process", "set-up", 1))
    cases = [
        Case(1, MIDDLE, True, "auto, no dir", kills),
        Case(2, PAIR[0], True, "dir", (_kill("rank 1", "mid-step", 9, rank=1),)),
    ]
    results = campaign.run(cases)
    assert [result.verdict for result in results] == ["equal"] * 2, [result.details for result in results]
    assert [len(result.hits) for result in results] == [3, 1]
    assert "rank 1: " in table.row(results[1])


def test_the_checker_sees_a_resume_with_another_seed(campaign):
    (result,) = campaign.run([Case(4, MIDDLE, True, "dir", (_kill("job", "mid-step", 9),), "seed")])
    assert result.verdict == "differs" and "state_dict.autoencoder" in result.details, result.details
    assert table.judge([result], is_broken=True, needs_all_places=False)[0]
    assert not table.judge([result], is_broken=False, needs_all_places=False)[0]


def test_a_hundred_drawn_cases_aim_everywhere():
    cases = draw_kills(100, seed=1)
    for num_processes in (1, 2):
        aimed = {
            strike.stage
            for case in cases
            if case.configuration.num_processes == num_processes
            for strike in case.strikes
        }
        assert aimed >= set(CATEGORIES)
    assert sum(not case.is_forked for case in cases) >= 10
    assert cases == draw_kills(100, seed=1) != draw_kills(100, seed=2)


@pytest.mark.parametrize(
    "configuration", [*SINGLE, *PAIR, *STRATEGIES, *SAVING], ids=lambda found: found.name
)
def test_the_table_counts_kills_of_every_run(configuration):
    strike = _kill("job", WRITE, 1)
    result = Result(Case(1, configuration, True, "dir", (strike,)), [Hit(strike, seen=None)])
    (line,) = (line for line in table.summary([result]) if line.startswith("set-up"))
    assert sorted(line.split()[1:]) == ["0", "0", "1"]


def _write_run(folder, weight=1.0, loss="0.5", momentum=2.0, **more):
    (folder / "checkpoints").mkdir(parents=True)
    checkpoint = {name: [] for name in checker.REQUIRED} | {
        "state_dict": {"a.weight": torch.tensor([weight, float("nan")])},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.tensor([momentum])}}}],
        "global_step": 3,
    }
    for name in checker.CHECKPOINTS:
        torch.save(checkpoint | more, folder / "checkpoints" / name)
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", "train/loss"], ["1", loss]])
    return folder


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"weight": 1.0000001}, "last.ckpt: state_dict.a.weight"),
        ({"weight": -1.0}, "last.ckpt: state_dict.a.weight"),
        ({"momentum": 2.5}, "last.ckpt: optimizer_states[0].state.0.exp_avg"),
        ({"loss": "0.50"}, "metrics.csv, line 2: 1,0.5 against 1,0.50"),
        ({"global_step": 4}, "last.ckpt: global_step: 3 against 4"),
        ({"global_step": 3.0}, "last.ckpt: global_step: int against float"),
        ({"MixedPrecision": {"scale": 2.0}}, "last.ckpt: MixedPrecision: only in the second"),
    ],
)
def test_the_checker_names_a_difference(tmp_path, capsys, changed, named):
    first, second = _write_run(tmp_path / "a"), _write_run(tmp_path / "b", **changed)
    assert checker.main([str(first), str(second)]) == 1
    assert named in capsys.readouterr().out


def test_the_checker_passes_equal_runs_and_misses_files(tmp_path, capsys):
    first, second = _write_run(tmp_path / "a"), _write_run(tmp_path / "b")
    assert checker.main([str(first), str(second)]) == 0
    (second / "checkpoints" / "step-00000003.ckpt").touch()
    (second / "checkpoints" / "best.ckpt").unlink()
    assert checker.main([str(first), str(second)]) == 1
    said = capsys.readouterr().out
    assert "step-00000003.ckpt: in one of the runs only" in said and "best.ckpt: not there" in said

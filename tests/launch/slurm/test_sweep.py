"""What a launch submits: points known again by what they are, wherever and however often they are launched."""

import json
import multiprocessing

import pytest

from pipeline.errors import LaunchError
from pipeline.launch.slurm.sweep import Sweep, find_home, home_of
from tests.launch.slurm.recorded import HORIZON, failure, finished, history, progress, submit, want

FORKS = multiprocessing.get_context("forkserver")


def plan(home, *wanted):
    return [(each.number, each.state) for each in Sweep.open(home).plan(wanted)]


def test_a_preview_leaves_nothing(tmp_path, no_slurm):
    assert plan(tmp_path / "sweep", want(1), want(2)) == [(0, "new"), (1, "new")]
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_new_or_unfinished(tmp_path, slurm):
    home = tmp_path / "sweep"
    submit(home, want(1), want(2), want(3), want(4))
    finished(home / "0")
    progress(home / "1", "stopped")
    failure(home / "3", "12_3", 1, "a flaw")
    slurm.jobs("12_0 COMPLETED", "12_1 TIMEOUT 0:0", "12_2 PENDING Priority", "12_3 FAILED 1:0")
    assert plan(home, want(4), want(5), want(1), want(2), want(3)) == [
        (3, "unfinished"),
        (4, "new"),  # the first number that is free
        (0, "finished"),
        (1, "unfinished"),
        (2, "active"),
    ]
    active = Sweep.open(home).plan([want(3)])[0]
    assert active.job == "12_2" and active.directory == home / "2"


@pytest.mark.parametrize(
    ("horizon", "state"),
    [
        ({"max_epochs": 8}, "finished"),
        ({"max_epochs": 9}, "unfinished"),
        ({"max_epochs": 4}, "finished"),
        ({"max_steps": 80}, "finished"),
        ({"max_epochs": 20, "max_steps": 81}, "unfinished"),
        ({"max_epochs": 20, "max_steps": 80}, "finished"),
        ({"max_epochs": -1}, "unfinished"),
    ],
    ids=str,
)
def test_a_longer_horizon_makes_a_finished_point_unfinished(horizon, state, tmp_path, slurm):
    home = tmp_path / "sweep"
    submit(home, want(1))
    finished(home / "0")
    slurm.jobs("12_0 COMPLETED")
    assert plan(home, want(1, **horizon)) == [(0, state)]


def test_stopped_before_the_horizon_is_not_finished(tmp_path, slurm):
    """A record that was written in training does not count, however far it is."""
    home = tmp_path / "sweep"
    submit(home, want(1))
    progress(home / "0", "running", step=80, epoch=8)
    slurm.jobs("12_0 COMPLETED")
    assert plan(home, want(1)) == [(0, "unfinished")]


def test_a_successor_in_a_chain_is_active(tmp_path, slurm):
    home = tmp_path / "sweep"
    submit(home, want(1))
    history(home / "0", "12_0 0 start node1", "12_0 0 successor 15_0", "12_0 0 chained 15_0 saved, to go on")
    slurm.jobs("12_0 FAILED 75:0", "15_0 PENDING Dependency")
    planned = Sweep.open(home).plan([want(1)])[0]
    assert (planned.state, planned.job) == ("active", "15_0")


def test_a_run_whose_directory_was_removed_is_new(tmp_path, slurm):
    home = tmp_path / "sweep"
    submit(home, want(1))
    (home / "0").rmdir()
    slurm.jobs("12_0 COMPLETED")
    assert plan(home, want(1)) == [(0, "new")]


def test_without_a_cluster_run_directories_decide(tmp_path, no_slurm):
    home = tmp_path / "sweep"
    submit(home, want(1), want(2))
    finished(home / "0")
    assert plan(home, want(1), want(2)) == [(0, "finished"), (1, "unfinished")]


def test_a_queue_that_does_not_answer_may_hold_the_job(tmp_path, slurm):
    """A preview tells what it knows; a launch would submit the run twice."""
    home = tmp_path / "sweep"
    submit(home, want(1), want(2))
    finished(home / "0")
    for command in ("squeue", "sacct"):
        slurm.set(command, "", code=1, errors="Unable to contact slurm controller")
    assert plan(home, want(1), want(2)) == [(0, "finished"), (1, "unfinished")]
    with Sweep.held(home) as sweep:
        assert sweep.plan([want(1)])[0].state == "finished"
        with pytest.raises(
            LaunchError, match="Unable to contact .*: job 12_1 may still be active; try again later"
        ):
            sweep.plan([want(1), want(2)])


def test_a_folder_that_is_in_the_way_gets_no_run(tmp_path, no_slurm):
    home = tmp_path / "sweep"
    (home / "0").mkdir(parents=True)
    assert plan(home, want(1), want(2)) == [(1, "new"), (2, "new")]


def test_equal_points_become_one_and_others_stay_apart(tmp_path, no_slurm, caplog):
    """What differs only in what a run may change is still another point of the same launch."""
    caplog.set_level("INFO")
    ddp, zero = want(1, "trainer.strategy=ddp"), want(1, "trainer.strategy=deepspeed")
    planned = Sweep.open(tmp_path / "sweep").plan([ddp, want(2), ddp, zero])
    assert [each.wanted for each in planned] == [ddp, want(2), zero]
    assert "trainer.seed=1 trainer.strategy=ddp: asked for twice, submitted once" in caplog.text


def test_of_points_with_one_identity_the_most_alike_is_known_again(tmp_path, slurm):
    home = tmp_path / "sweep"
    submit(home, want(1, "trainer.strategy=ddp"), want(1, "trainer.strategy=deepspeed"))
    slurm.jobs("12_0 COMPLETED", "12_1 COMPLETED")
    longer = [want(1, f"trainer.strategy={name}", max_epochs=9) for name in ("deepspeed", "ddp", "auto")]
    assert plan(home, *longer) == [(1, "unfinished"), (0, "unfinished"), (2, "new")]


def test_a_chosen_directory(tmp_path, slurm):
    home = tmp_path / "run"
    submit(home, want(1, directory=home))
    assert plan(home, want(1, directory=home)) == [(0, "unfinished")]
    with pytest.raises(
        LaunchError, match=r"holds another run, submitted as trainer.seed=1; choose another run.dir"
    ):
        plan(home, want(2, directory=home))


def test_a_sweep_that_was_moved(tmp_path, slurm):
    former, home = tmp_path / "sweep", tmp_path / "elsewhere"
    submit(former, want(1), want(2))
    former.rename(home)
    assert [point.directory for point in Sweep.open(home).points] == [home / "0", home / "1"]
    assert Sweep.open(home).points[1].submissions[0].log == str(home / "logs" / "12_1.log")


def test_a_record_that_cannot_be_read_is_refused(tmp_path):
    submit(tmp_path, want(1))
    record = tmp_path / "sweep.json"
    whole = record.read_text(encoding="utf-8")
    for text in (whole[:50], "[]", "{}", whole.replace('"version": 1', '"version": 2')):
        record.write_text(text, encoding="utf-8")
        with pytest.raises(LaunchError, match=r"sweep\.json"):
            Sweep.open(tmp_path)


def test_find_home(tmp_path):
    """The newest sweep with one of the points, whatever its name sorts to."""
    submit(tmp_path / "sweep_b", want(1), want(2))
    submit(tmp_path / "sweep_a", want(2), want(3))
    submit(tmp_path / "other", want(4))
    assert find_home(tmp_path, ["identity of 1", "identity of 9"]) == tmp_path / "sweep_b"
    assert find_home(tmp_path, ["identity of 2"]) == tmp_path / "sweep_a"
    assert find_home(tmp_path, ["identity of 4"]) is None
    assert find_home(tmp_path / "nothing", ["identity of 1"]) is None


def test_home_of(tmp_path):
    submit(tmp_path / "sweep_a", want(1))
    submit(tmp_path / "alone", want(1, directory=tmp_path / "alone"))
    assert home_of(tmp_path / "sweep_a" / "0") == tmp_path / "sweep_a"
    assert home_of(tmp_path / "alone") == tmp_path / "alone"
    assert home_of(tmp_path / "sweep_a" / "0" / "checkpoints") is None


def _launch(home, seeds, submitted):
    with Sweep.held(home) as sweep:
        for each in sweep.plan([want(seed) for seed in seeds]):
            if each.state == "new":
                each.directory.mkdir()
                submitted.put(each.wanted.overrides[0])
                sweep.record(each, f"{100 + each.number}", home / "scripts" / "0.sh", str(home / "log"))
                sweep.save()


@pytest.mark.long
def test_launches_at_once_lose_no_point_and_submit_none_twice(tmp_path, slurm):
    """Eight launches of five points out of eight each."""
    slurm.jobs(*(f"{100 + number} PENDING Priority" for number in range(8)))
    submitted = FORKS.Queue()
    launches = [
        FORKS.Process(target=_launch, args=(tmp_path, [(first + step) % 8 for step in range(5)], submitted))
        for first in range(8)
    ]
    for launch in launches:
        launch.start()
    for launch in launches:
        launch.join(timeout=120)
        assert launch.exitcode == 0
    seeds = sorted(submitted.get(timeout=10) for _ in range(8))
    assert submitted.empty() and seeds == [f"trainer.seed={seed}" for seed in range(8)]
    points = Sweep.open(tmp_path).points
    assert [point.number for point in points] == list(range(8))
    assert {point.horizon["max_epochs"] for point in points} == {HORIZON["max_epochs"]}
    assert json.loads((tmp_path / "sweep.json").read_text())["points"][3]["jobs"]

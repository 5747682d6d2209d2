"""Where a launch goes, and what a sweeper may ask for; on a machine without SLURM."""

import json
import shlex
from pathlib import Path

import pytest

from pipeline.errors import LaunchError
from pipeline.launch.slurm import submit
from pipeline.launch.slurm.sweep import Sweep
from tests.launch.slurm.launches import point, prepared, preview


def submitted_before(home: Path, *lines: str) -> None:
    """Leaves what an earlier launch of these points has written into its folder."""
    with Sweep.held(home) as sweep:
        for planned in sweep.plan([prepared(line).wanted for line in lines]):
            sweep.record(planned, f"7_{planned.number}", home / "scripts" / "0.sh", "log")
            (planned.directory).mkdir(parents=True)
        (home / "scripts").mkdir()
        (home / "scripts" / "0.sh").write_text("")
        sweep.save()


def test_a_sweep_that_is_launched_again_goes_on_in_its_folder(tmp_path):
    earlier = tmp_path / "home" / "runs" / "default" / "sweep_2026-01-01"
    submitted_before(earlier, "trainer.seed=1", "trainer.seed=2")
    result = preview("trainer.seed=2,3", home=tmp_path / "home")
    assert result.code == 0, result.output
    assert "  " + str(earlier / "1") in result.printed.splitlines()
    assert "  " + str(earlier / "2") in result.printed.splitlines()
    assert f"EULER_SCRIPT={earlier}/scripts/1.sh" in result.printed


def test_a_preview_that_submits_nothing_leaves_nothing_out(tmp_path):
    """Of a finished run no configuration is to be checked."""
    image, place = "container.image=/shared/euler.sif", tmp_path / "sweep"
    line = f"trainer.seed=1 {image}"
    submitted_before(place, line)
    (planned,) = Sweep.open(place).points
    trainer = prepared(line).config.trainer.trainer
    horizon = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
    progress = {"state": "finished", "step": 1, "epoch": 1, "horizon": horizon}
    (planned.directory / "progress.json").write_text(json.dumps(progress))
    result = preview(f"{line} hydra.sweep.dir={place}", home=tmp_path / "home")
    assert result.code == 0 and "nothing to submit" in result.output, result.output
    assert "not checked by a preview" not in result.output


def test_fresh_begins_a_sweep_of_its_own(tmp_path):
    earlier = tmp_path / "home" / "runs" / "default" / "sweep_2026-01-01"
    submitted_before(earlier, "trainer.seed=1", "trainer.seed=2")
    result = preview("trainer.seed=2,3 hydra.launcher.fresh=true", home=tmp_path / "home")
    assert result.code == 0, result.output
    assert str(earlier) not in result.printed and "/scripts/0.sh" in result.printed


def test_fresh_does_not_mix_with_what_is_there(tmp_path):
    submitted_before(tmp_path / "sweep", "trainer.seed=1")
    line = f"trainer.seed=1,2 hydra.launcher.fresh=true hydra.sweep.dir={tmp_path / 'sweep'}"
    result = preview(line, home=tmp_path / "home")
    assert result.code == 1 and result.printed == ""
    assert "hydra.launcher.fresh=true: " in result.output and "choose a new folder" in result.output


def test_a_sweeper_that_wants_results_is_waited_for(tmp_path):
    composition, launcher = point("trainer.seed=1")
    origin = submit.Origin(tmp_path / "sweep", is_home_given=True, is_basic=False, given=())
    with pytest.raises(LaunchError, match="set hydra.launcher.wait=true, or hydra/sweeper=basic"):
        submit.submit([(composition, launcher)], origin)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("runs", "place"), [("~/our runs", "me/our runs"), ("", "home/cwd/runs")])
def test_the_root_of_all_runs_is_what_it_is_to_a_run(runs, place, tmp_path):
    result = preview("trainer.seed=1", home=tmp_path / "home", EULER_RUNS=runs, HOME=str(tmp_path / "me"))
    assert result.code == 0, result.output
    assert f"{tmp_path / place}/default/sweep_" in result.printed


@pytest.mark.parametrize("folder", ["~/sweeps/1", "{}/K\u00e4se it's [1]"])
def test_the_folder_of_a_sweep_may_have_any_name(folder, tmp_path):
    folder = folder.format(tmp_path)
    result = preview(
        shlex.join([f"hydra.sweep.dir={folder}"]), home=tmp_path / "home", HOME=str(tmp_path / "me")
    )
    assert result.code == 0, result.output
    place = folder.replace("~", str(tmp_path / "me"))
    assert f"EULER_SCRIPT={shlex.quote(place + '/scripts/0.sh')}" in result.printed

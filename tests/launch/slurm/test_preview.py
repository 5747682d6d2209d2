"""hydra.launcher.dry_run=true: the scripts on standard output, all else beside it, and nothing left behind."""

import shlex
import subprocess

import pytest

from pipeline.launch.slurm import snapshot
from tests.launch.slurm.launches import preview

MOST_SECONDS = 3.0


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Returns what a preview of one line does, run once."""
    kept = {}

    def run(line):
        if line not in kept:
            kept[line] = preview(line, home=tmp_path_factory.mktemp("preview") / "home")
        return kept[line]

    return run


SWEEP = "trainer.seed=1,2,3 hydra.sweep.dir=/srv/sweep hydra.launcher.array_parallelism=2"


def test_standard_output_is_the_script_alone(shown, tmp_path):
    result = shown(SWEEP)
    assert result.code == 0, result.output
    script = tmp_path / "printed.sh"
    script.write_text(result.printed)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    lines = result.printed.splitlines()
    assert lines[0] == "#!/bin/bash" and lines[-1] == 'live "${runs[${SLURM_ARRAY_TASK_ID:-0}]}"'
    assert "#SBATCH --array=0-2%2" in lines and "  /srv/sweep/2" in lines
    assert result.printed.count("#!/bin/bash") == 1


def test_it_is_quick_and_leaves_nothing_behind(shown):
    result = shown(SWEEP)
    assert result.heavy == () and result.written == ()
    assert result.seconds < MOST_SECONDS


def test_nothing_in_it_depends_on_the_moment(shown, tmp_path):
    assert preview(SWEEP, home=tmp_path / "home").printed == shown(SWEEP).printed


def test_it_names_the_copy_of_the_code_that_a_submission_takes(shown, tmp_path):
    name = snapshot.planned(tmp_path).name
    assert f"export EULER_CODE=/srv/sweep/code/{name}\n" in shown(SWEEP).printed


def test_no_library_warns(shown):
    said = shown(SWEEP).output.lower()
    assert "deprecat" not in said and "userwarning" not in said and "plugins scanner" not in said


def test_points_with_other_resources_get_a_script_of_their_own(shown):
    result = shown("trainer.num_nodes=1,2 trainer.seed=1,2 hydra.sweep.dir=/srv/sweep")
    assert result.code == 0 and result.printed.count("#!/bin/bash") == 2
    for part in ("--nodes=1", "--nodes=2", "EULER_SCRIPT=/srv/sweep/scripts/1.sh", "--array=0-1%2"):
        assert part in result.printed
    assert result.written == ()


def test_one_point_is_a_plain_job_in_its_own_directory(shown):
    result = shown("run.dir=/srv/one trainer.seed=3")
    assert "--array" not in result.printed
    assert "#SBATCH --output=/srv/one/logs/%j.log" in result.printed.splitlines()
    assert "  /srv/one" in result.printed.splitlines()


def test_a_place_that_nodes_do_not_see_is_pointed_out(shown):
    result = shown("hydra.sweep.dir=/dev/shm/sweep")
    assert result.code == 0
    assert (
        "hydra.sweep.dir=/dev/shm/sweep: " in result.output
        and "choose a folder on the shared" in result.output
    )
    assert "warning" not in shown(SWEEP).output


def test_a_sweep_goes_to_the_root_of_all_runs(shown):
    result = shown("trainer.seed=1,2 run.name=first/try")
    (log,) = [line for line in result.printed.splitlines() if line.startswith("#SBATCH --output=")]
    assert "/home/runs/first/try/sweep_" in shlex.split(log)[1]


def test_an_image_is_not_run(shown):
    """It need not be there yet: what is not looked at is said."""
    result = shown("container.image=/shared/euler.sif trainer.seed=1,2 hydra.sweep.dir=/srv/sweep")
    assert result.code == 0 and result.heavy == () and result.written == ()
    assert result.seconds < MOST_SECONDS
    assert "not checked by a preview: container.image=/shared/euler.sif" in result.output
    assert result.output.count("note: container.image=/shared/euler.sif: no such file; valid: ") == 1
    assert "export EULER_IMAGE=/shared/euler.sif\n" in result.printed

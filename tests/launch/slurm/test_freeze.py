"""What slurm/train.sbatch keeps at its first start."""

import subprocess
import sys
from pathlib import Path

from pipeline.config.compose import settle
from pipeline.launch.slurm import failure, submission
from tests.integration.runs import ROOT


def freeze(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.launch.slurm.freeze", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_code_and_configuration_are_kept(tmp_path):
    run = tmp_path / "home" / "0"
    ended = freeze("--run", run, tmp_path / "home", "trainer.seed=7", "trainer.trainer.max_steps=3")
    assert ended.returncode == 0, ended.stderr
    code = Path(ended.stdout.strip())
    assert code.parent == tmp_path / "home" / "code" and (code / "slurm" / "job.sh").is_file()
    assert (failure.job_folder(run) / "code").read_text() == ended.stdout
    assert settle(submission.read(run)).trainer.seed == 7


def test_without_a_run_the_overrides_are_checked(tmp_path):
    ended = freeze(tmp_path / "home", "trainer.sede=7")
    assert ended.returncode == 1
    assert "trainer.sede: unknown key" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "home").exists()


def test_what_hydra_cannot_compose(tmp_path):
    ended = freeze(tmp_path / "home", "model=nothing")
    assert ended.returncode == 1 and "ConfigError" in ended.stderr and "Traceback" not in ended.stderr
    ended = freeze(tmp_path / "home", "--", "-m")
    assert ended.returncode == 1 and "-m: a job takes overrides only" in ended.stderr


def test_several_nodes_are_no_error_before_the_job_has_them(tmp_path):
    assert freeze(tmp_path / "home", "trainer.num_nodes=2", "trainer.num_gpus=4").returncode == 0


def test_no_torch(tmp_path):
    ended = freeze(tmp_path / "home", "--", "trainer.num_gpus=4")
    assert ended.returncode == 0
    check = (
        "import sys; from pipeline.launch.slurm import freeze; sys.argv = ['f', sys.argv[1]]; freeze.main(); "
    )
    ended = subprocess.run(
        [sys.executable, "-c", f"{check}assert 'torch' not in sys.modules", str(tmp_path / "home")], cwd=ROOT
    )
    assert ended.returncode == 0


def test_the_template_says_where_it_is_to_be_submitted(tmp_path):
    command = ["bash", str(ROOT / "slurm" / "train.sbatch"), "trainer.seed=3"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert ended.returncode == 1 and "submit from the checkout" in ended.stderr, ended.stderr
    assert list(tmp_path.iterdir()) == []

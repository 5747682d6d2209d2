"""The batch script: its header in SLURM's words, and what it sets for the job."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.launch.slurm.enclosure import enclosure
from pipeline.launch.slurm.script import Script
from tests.launch.slurm.launches import prepared

HOME = Path("/shared/my runs/100%/sweep")


def text_of(line: str, runs: int = 1) -> str:
    point = prepared(line, cluster=None)
    return Script(
        path=HOME / "scripts" / "0.sh",
        home=HOME,
        code=HOME / "code" / "0123456789abcdef",
        runs=[HOME / str(number) for number in range(runs)],
        settings=point.settings,
        site=point.config.site,
        shape=point.shape,
    ).text()


def test_a_script_of_an_image(tmp_path):
    """Folders that are written to, then what is read, each once; the interpreter is the image's."""
    (tmp_path / "music").mkdir()
    point = prepared(
        f"'container.image=/shared/my images/euler.sif' container.binds=[/opt/x:/x:ro] container.args=[--rocm] "
        f"container.executable=/sw/bin/apptainer trainer.num_gpus=2 data=folder data.root={tmp_path}/music "
        f"data.eval_dataset.root={tmp_path} data.cache_dir=/shared/cache trainer.trainer.ckpt_dir=/shared/cache/c",
        cluster=None,
    )
    inside = enclosure([point.config], [HOME, HOME / "0"])
    text = Script(
        path=HOME / "scripts" / "0.sh",
        home=HOME,
        code=HOME / "code" / "0123",
        runs=[HOME / "0"],
        settings=point.settings,
        site=point.config.site,
        shape=point.shape,
        inside=inside,
    ).text()
    assert "export EULER_PYTHON=python\nexport EULER_IMAGE='/shared/my images/euler.sif'\n" in text
    assert "export EULER_APPTAINER=/sw/bin/apptainer\n" in text
    words = f"""\
in_image=(
  '--folder=/shared/my runs/100%/sweep'
  --folder=/shared/cache
  --data={tmp_path}
  --nv
  --bind=/opt/x:/x:ro
  --rocm
)
"""
    assert words in text


def header(line: str, runs: int = 1) -> set[str]:
    """The options of sbatch, without its name for comments."""
    lines = text_of(line, runs).splitlines()
    return {text.removeprefix("#SBATCH --") for text in lines if text.startswith("#SBATCH")}


def test_a_whole_script():
    line = "trainer.num_nodes=2 trainer.num_gpus=2 site=example hydra.launcher.mem_gb=1.5 hydra.launcher.timeout_min=90"
    assert text_of(
        f"{line} 'hydra.launcher.setup=ulimit -n 4096' hydra.launcher.srun_args=--cpu-bind=cores", 2
    ) == (
        f"""\
#!/bin/bash
#SBATCH --account=project_123
#SBATCH --array=0-1%2
#SBATCH --cpus-per-task=3
#SBATCH --gres=gpu:a100:2
#SBATCH --hint=nomultithread
#SBATCH --job-name=train
#SBATCH --mem=1536MB
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output='/shared/my runs/100%%/sweep/logs/%A_%a.log'
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=90

type module > /dev/null 2>&1 || . /etc/profile
module load gcc cuda || exit
export NCCL_DEBUG=WARN
export TMPDIR="/scratch/$USER/$SLURM_JOB_ID"
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 mkdir -p "$TMPDIR" || exit
ulimit -n 4096

# the runs, by SLURM_ARRAY_TASK_ID
runs=(
  '/shared/my runs/100%/sweep/0'
  '/shared/my runs/100%/sweep/1'
)
export EULER_PYTHON={sys.executable}
export EULER_IMAGE=''
export EULER_CODE='/shared/my runs/100%/sweep/code/0123456789abcdef'
export EULER_SCRIPT='/shared/my runs/100%/sweep/scripts/0.sh'
export EULER_COMEBACK=requeue
export EULER_MAX_RESTARTS=100
srun_args=(--cpu-bind=cores)
. "$EULER_CODE/slurm/job.sh"
live "${{runs[${{SLURM_ARRAY_TASK_ID:-0}}]}}"
"""
    )


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", {"time=60", "signal=USR2@120", "requeue", "nodes=1", "ntasks-per-node=1", "job-name=train"}),
        ("trainer.num_gpus=4", {"gpus-per-node=4", "ntasks-per-node=4"}),
        ("hydra.launcher.partition=gpu hydra.launcher.qos=long", {"partition=gpu", "qos=long"}),
        ("site=example hydra.launcher.partition=other", {"partition=other", "account=project_123"}),
        ("hydra.launcher.constraint='a100|h100'", {"constraint='a100|h100'"}),
        ("hydra.launcher.mem_gb=16", {"mem=16GB"}),
        ("hydra.launcher.mem_per_gpu=20G hydra.launcher.exclude=node[1-3]", {"mem-per-gpu=20G"}),
        ("'hydra.launcher.comment=a try'", {"comment='a try'"}),
        ("trainer.num_gpus=1 hydra.launcher.cpus_per_gpu=8", {"cpus-per-gpu=8"}),
        ("site.requeue=false", {"no-requeue"}),
        ("hydra.launcher.additional_parameters.mail-type=END", {"mail-type=END"}),
        ("hydra.launcher.additional_parameters={mail_user:me,exclusive:true}", {"mail-user=me", "exclusive"}),
        ("hydra.launcher.signal_delay_s=300", {"signal=USR2@300"}),
        (
            "hydra.launcher.stderr_to_stdout=false",
            {
                "error='/shared/my runs/100%%/sweep/logs/%j.err'",
                "output='/shared/my runs/100%%/sweep/logs/%j.log'",
            },
        ),
    ],
)
def test_options_of_sbatch(line, options):
    assert options <= header(line)


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("", ("array", "partition", "mem", "gpus", "gres", "error", "no-requeue", "wckey", "account")),
        ("site.requeue=false", ("requeue",)),
        ("site=example hydra.launcher.additional_parameters.hint=null", ("hint",)),
        ("site=example hydra.launcher.account=null", ("account",)),
        ("trainer.num_gpus=2 hydra.launcher.cpus_per_gpu=8", ("cpus-per-task", "gres")),
        ("trainer.num_gpus=2 site.gpu_gres=gpu:a100", ("gpus-per-node",)),
    ],
)
def test_options_that_are_left_out(line, absent):
    assert [option for option in header(line) if option.startswith(absent)] == []


def test_an_array_has_a_limit_of_tasks_at_one_time():
    assert "array=0-4%5" in header("", runs=5)
    assert "array=0-4%2" in header("hydra.launcher.array_parallelism=2", runs=5)


def test_the_environment_cannot_change_the_signal(monkeypatch):
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    assert "signal=USR2@120" in header("")


def test_what_the_environment_says_to_sbatch_is_written_down(monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    assert "account=mine" in header("")
    assert "account=other" in header("hydra.launcher.account=other")


@pytest.mark.parametrize(
    "line", ["", "site=example trainer.num_gpus=1", "site.requeue=false site.network_interface=ib0"]
)
def test_bash_and_shellcheck_accept_it(line, tmp_path):
    script = tmp_path / "0.sh"
    script.write_text(text_of(line, runs=3))
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is not None:
        subprocess.run(["shellcheck", "--exclude=SC1090,SC1091,SC2034", script], check=True)

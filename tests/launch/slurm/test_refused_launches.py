"""Wrong launches, as a user would type them: refused at once with the remedy, before anything is touched."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.errors import PipelineError
from tests.config.command_line import train
from tests.launch.slurm.launches import LAUNCHER, prepared, preview, without_slurm

# arguments -> what the message must contain: the key as it was given, then the remedy
COMMANDS = {
    "hydra.launcher.nodes=2": (
        "hydra.launcher.nodes=2 contradicts trainer.num_nodes=1",
        "set trainer.num_nodes=2",
    ),
    "trainer.num_gpus=4 hydra.launcher.gpus_per_node=2": (
        "hydra.launcher.gpus_per_node=2 contradicts trainer.num_gpus=4",
        "set trainer.num_gpus=2",
    ),
    "trainer.num_processes=2 hydra.launcher.tasks_per_node=4": (
        "hydra.launcher.tasks_per_node=4 contradicts trainer.num_processes=2",
        "set trainer.num_processes=4",
    ),
    "hydra.launcher.timeout_min=2": (
        "hydra.launcher.timeout_min=2",
        "120 s before its end",
        "signal_delay_s",
    ),
    "hydra.launcher.name=bash": ("hydra.launcher.name=bash", "choose another name"),
    "hydra.launcher.additional_parameters.no-requeue=true": (
        "hydra.launcher.additional_parameters.no-requeue=True",
        "site.requeue=false",
    ),
    "site.requeue=false hydra.launcher.additional_parameters.requeue=true": (
        "hydra.launcher.additional_parameters.requeue=True",
        "set site.requeue=true",
    ),
    "hydra.launcher.additional_parameters.output=job.log": (
        "hydra.launcher.additional_parameters.output=job.log",
        "hydra.sweep.dir=DIR",
    ),
    "hydra.launcher.timeout_mins=60": ("hydra.launcher.timeout_mins: unknown key", "'timeout_min'"),
    "hydra.launcher.array_parallelism=0": ("hydra.launcher.array_parallelism=0", "greater than 0"),
    "hydra.launcher.python=/no/such/python": ("hydra.launcher.python=/no/such/python", "or null"),
    "hydra.launcher.timeout_min=60,120": ("hydra.launcher.timeout_min=60,120", "launch once for each value"),
    "hydra.launcher=submitit_slurm": (
        "hydra.launcher=submitit_slurm",
        "did you mean hydra/launcher=submitit_slurm",
    ),
    "trainer.seed=1,2 run.dir=one": ("run.dir=", "several points", "hydra.sweep.dir=DIR"),
    "trainer.seed=1,2 hydra.sweep.subdir=x": ("hydra.sweep.subdir=x", "hydra.sweep.dir=DIR"),
    "hydra.sweep.dir=": ("hydra.sweep.dir=: no folder", "leave it out"),
    "'hydra.sweep.dir=\"a\nb\"'": ("no line breaks", "choose another EULER_RUNS"),
    "--cfg job": ("--cfg shows one job", "leave out -m"),
    "site=nowhere": ("site/nowhere", "example", "none"),
    "trainer.seed=1,-1": ("trainer.seed=-1", "greater than or equal to 0"),
    "hydra.launcher.gpus_per_task=1": ("hydra.launcher.gpus_per_task=1", "NCCL", "set trainer.num_gpus"),
}

# More of the same, checked by the same functions without a process of their own.
IN_THIS_PROCESS = {
    "hydra.launcher.srun_args=[--cpu-bind=cores]": ("hydra.launcher.srun_args=", "quoted"),
    "trainer.num_gpus=4 hydra.launcher.tasks_per_node=1": (
        "hydra.launcher.tasks_per_node=1 contradicts trainer.num_gpus=4",
        "leave hydra.launcher.tasks_per_node out",
    ),
    "trainer.num_gpus=0 hydra.launcher.gres=gpu:a100:2": (
        "hydra.launcher.gres=gpu:a100:2 contradicts trainer.num_gpus=0",
        "set trainer.num_gpus=2",
    ),
    "trainer.num_gpus=2 trainer.num_processes=2 hydra.launcher.partition=gpu": (
        "trainer.num_processes=2",
        "valid: trainer.num_gpus=0",
    ),
    "hydra.launcher.cpus_per_gpu=4": ("hydra.launcher.cpus_per_gpu=4", "set hydra.launcher.cpus_per_task"),
    "trainer.num_gpus=1 hydra.launcher.cpus_per_gpu=4 hydra.launcher.cpus_per_task=4": (
        "hydra.launcher.cpus_per_task=4 and hydra.launcher.cpus_per_gpu=4",
        "one of them",
    ),
    "hydra.launcher.name=interactive": ("hydra.launcher.name=interactive", "choose another name"),
    "hydra.launcher.additional_parameters.requeue=false": (
        "hydra.launcher.additional_parameters.requeue=False",
        "leave it out",
    ),
    "hydra.launcher.additional_parameters.signal=USR1@60": (
        "hydra.launcher.additional_parameters.signal=USR1@60",
        "hydra.launcher.signal_delay_s",
    ),
    "hydra.launcher.additional_parameters.array=0-3": (
        "hydra.launcher.additional_parameters.array=0-3",
        "hydra.launcher.array_parallelism",
    ),
    "hydra.launcher.additional_parameters.job_name=mine": (
        "hydra.launcher.additional_parameters.job_name=mine",
        "set hydra.launcher.name",
    ),
    "site=example site.additional_parameters.ntasks=3": (
        "site.additional_parameters.ntasks=3",
        "trainer.num_nodes",
    ),
    "hydra.launcher.additional_parameters.exclusive=false": (
        "hydra.launcher.additional_parameters.exclusive=False",
        "leave it out",
    ),
    "hydra.launcher.timeout_min=1h": ("hydra.launcher.timeout_min='1h'", "valid integer"),
    "hydra.launcher.mem_gb=0": ("hydra.launcher.mem_gb=0", "greater than 0"),
    "hydra.launcher.mem_gb=4 hydra.launcher.mem_per_cpu=2G": (
        "hydra.launcher.mem_gb=4.0 and hydra.launcher.mem_per_cpu=2G",
        "leave the others out",
    ),
    "hydra.launcher.max_num_timeout=3": ("hydra.launcher.max_num_timeout=3", "hydra.launcher.max_restarts"),
    "hydra.launcher.submitit_folder=logs": ("hydra.launcher.submitit_folder", "hydra.sweep.dir=DIR"),
    "site.partitions=gpu": ("site.partitions: unknown key", "did you mean 'partition'"),
    "site.modules=gcc": ("site.modules='gcc'", "valid list"),
    "hydra.launcher.mem_gb=inf": ("hydra.launcher.mem_gb=inf", "finite"),
    "hydra.launcher.mem_gb=0.0001": ("hydra.launcher.mem_gb=0.0001", "less than 1 MB"),
    "hydra.launcher.timeout_min=99999999999": (
        "hydra.launcher.timeout_min=99999999999",
        "less than or equal",
    ),
    "'hydra.launcher.comment=\"a\nb\"'": ("hydra.launcher.comment=", "one line of text"),
    "hydra.launcher.additional_parameters.p=gpu": (
        "hydra.launcher.additional_parameters.p=gpu",
        "long names",
    ),
    "hydra.launcher.additional_parameters={--mail-type:END}": (
        "hydra.launcher.additional_parameters.--mail-type=END",
        "as in mail-type",
    ),
    "hydra.launcher.additional_parameters.mail.type=END": (
        "hydra.launcher.additional_parameters.mail=",
        "one value",
    ),
    "hydra.launcher.additional_parameters=[mail-type]": (
        "hydra.launcher.additional_parameters=[mail-type]",
        "{mail-type: END}",
    ),
    "'hydra.launcher.setup=[\"#SBATCH --nodes=2\"]'": (
        "hydra.launcher.setup: #SBATCH --nodes=2",
        "hydra.launcher.additional_parameters",
    ),
    "'hydra.launcher.srun_args=[\"--ntasks=5\"]'": (
        "hydra.launcher.srun_args: --ntasks=5",
        "trainer.num_processes",
    ),
    "hydra.launcher._target_=os.system": ("hydra.launcher._target_=os.system", "hydra/launcher=NAME"),
    # what the cluster does not have
    "hydra.launcher.mem_gb=32": ("hydra.launcher.mem_gb=32", "have 15.6 GB", "lower hydra.launcher.mem_gb"),
    "trainer.num_processes=2 hydra.launcher.mem_per_cpu=8G": (
        "hydra.launcher.mem_per_cpu=8G",
        "32 GB a node",
        "lower hydra.launcher.mem_per_cpu",
    ),
    "hydra.launcher.partition=gpuu": (
        "hydra.launcher.partition=gpuu",
        "did you mean 'gpu'?",
        "cpu, gpu, short",
    ),
    "'hydra.launcher.partition=\"cpu,cpus\"'": ("hydra.launcher.partition=cpus", "did you mean 'cpu'?"),
    "hydra.launcher.partition=short": (
        "hydra.launcher.timeout_min=60",
        "partition short allows 30",
        "30 or less",
    ),
    "hydra.launcher.partition=gpu": ("trainer.num_gpus=auto", "set trainer.num_gpus to 1 ... 8, or to 0"),
    "trainer.num_gpus=1": ("trainer.num_gpus=1", "partition cpu have no GPUs", "hydra.launcher.partition"),
    "trainer.num_gpus=16 hydra.launcher.partition=gpu": ("trainer.num_gpus=16", "have 8 GPUs", "to 8"),
    "hydra.launcher.cpus_per_task=8": ("hydra.launcher.cpus_per_task=8", "have 4", "lower"),
    "trainer.num_processes=8": ("8 ranks a node", "have 4", "trainer.num_processes"),
    "trainer.num_nodes=3": ("trainer.num_nodes=3", "partition cpu has 2 nodes", "lower trainer.num_nodes"),
    "trainer.num_nodes=2 trainer.num_gpus=8 hydra.launcher.partition=gpu": (
        "trainer.num_nodes=2",
        "partition gpu has 1 nodes",
    ),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Every command line as a running or finished process, two at a time."""
    root = tmp_path_factory.mktemp("refusals")
    pool = ThreadPoolExecutor(2)
    futures = {
        line: pool.submit(preview, line, home=root / str(number)) for number, line in enumerate(COMMANDS)
    }
    yield {line: future.result for line, future in futures.items()}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_launch_is_refused(line, ended):
    result = ended[line]()
    assert result.code == 1 and "Traceback" not in result.output, result.output
    missing = [part for part in COMMANDS[line] if part not in result.output]
    assert not missing, result.output
    assert result.printed == "" and result.written == () and result.heavy == ()


@pytest.mark.parametrize("line", IN_THIS_PROCESS)
def test_a_point_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EULER_RUNS", str(tmp_path / "runs"))
    with pytest.raises(PipelineError) as refusal:
        prepared(line)
    missing = [part for part in IN_THIS_PROCESS[line] if part not in str(refusal.value)]
    assert not missing, refusal.value
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_sbatch_points_to_what_works_there(tmp_path):
    result = train(
        "-m", LAUNCHER, "trainer.seed=1,2", home=tmp_path / "home", environment=without_slurm(tmp_path)
    )
    assert result.code == 1 and "Traceback" not in result.output
    for part in ("no sbatch on this machine", "hydra.launcher.dry_run=true", "hydra/launcher=basic"):
        assert part in result.output
    assert result.written == () and result.heavy == ()

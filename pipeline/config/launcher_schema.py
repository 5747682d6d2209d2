"""Schema of `hydra.launcher` for SLURM: the names and meanings of Hydra's submitit launcher, and a few of our own."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, field_validator

from pipeline.config.section import Line, Lines, PathText, Section, Word, translate

SLURM_LAUNCHER = "submitit_slurm"
"""The choice of the group `hydra/launcher` that these settings belong to."""

Memory = Annotated[str, Field(pattern=r"^[1-9]\d*[KMGT]?$")]
_TEN_YEARS_MIN = 5_256_000
_NOT_USED = {
    "submitit_folder": "logs and scripts lie beside the runs of a sweep; choose the place with hydra.sweep.dir=DIR",
    "max_num_timeout": "every restart counts alike, after a time limit, too; set hydra.launcher.max_restarts",
    "gpus_per_task": "it hides the other GPUs of the node from a rank, and NCCL needs to see all of them; set "
    "trainer.num_gpus (GPUs per node, one rank each) and leave it out",
}


class LauncherSettings(Section):
    """What SLURM is asked for; null is derived from the run or left to the cluster."""

    name: Word
    partition: Word | None
    account: Word | None
    qos: Word | None
    constraint: Word | None
    exclude: Word | None
    comment: Line | None
    timeout_min: PositiveInt = Field(le=_TEN_YEARS_MIN)  # SLURM takes what it cannot count for no limit
    signal_delay_s: PositiveInt = Field(le=65535)  # what sbatch takes
    array_parallelism: PositiveInt
    nodes: PositiveInt | None
    tasks_per_node: PositiveInt | None
    cpus_per_task: PositiveInt | None
    gpus_per_node: NonNegativeInt | None
    gres: Word | None
    cpus_per_gpu: PositiveInt | None
    gpus_per_task: int | None
    mem_gb: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None
    mem_per_cpu: Memory | None
    mem_per_gpu: Memory | None
    stderr_to_stdout: bool
    setup: Lines | None
    additional_parameters: dict[str, Any]
    submitit_folder: str | None
    max_num_timeout: int | None
    srun_args: Lines | None
    python: PathText | None
    max_restarts: NonNegativeInt
    wait: bool
    dry_run: bool
    fresh: bool

    @field_validator("mem_gb")
    @classmethod
    def _at_least_one_mb(cls, value: float | None) -> float | None:
        if value is not None and value * 1024 < 1:
            raise ValueError("less than 1 MB, which SLURM would take for all of the node")
        return value

    @field_validator(*_NOT_USED)
    @classmethod
    def _not_used(cls, value: Any, info: Any) -> Any:
        if value is not None:
            raise ValueError(_NOT_USED[info.field_name])
        return value


class _Hydra(Section):
    launcher: LauncherSettings


class _Root(Section):
    hydra: _Hydra


def parse_launcher(tree: Mapping[str, Any]) -> LauncherSettings:
    """Check the composed `hydra.launcher`.

    Raises:
        ConfigError: an unknown, missing or wrongly typed key; the message leads with its full path.
    """
    try:
        return _Root.model_validate({"hydra": {"launcher": dict(tree)}}).hydra.launcher
    except ValidationError as error:
        raise translate(_Root, error, {}) from None

"""The table of contents of a run."""

import logging
import os

from pipeline.errors import TrainingError
from pipeline.launch.directory import RunDirectory
from pipeline.launch.logs import configure_logging
from pipeline.launch.preflight import Preflight
from pipeline.launch.report import banner, describe_run, out_of_memory_advice, results

_log = logging.getLogger(__name__)


def train(checked: Preflight) -> None:
    """Train one rank of a run, from its checked configuration to its end.

    A run directory that holds `last.ckpt` is continued; what is on disk decides, nothing else.

    Raises:
        PipelineError: anything that the user can mend.
    """
    # The one place above which nothing imports torch: refusals and submission stay fast.
    import torch

    from pipeline.training import assembly
    from pipeline.training.checkpoint import weights_digest
    from pipeline.training.loggers import wandb_sync_command

    config, run, resources = checked.config, RunDirectory.of(checked.config), checked.resources
    rank = int(os.environ.get("RANK", "0"))
    configure_logging(rank, run.log_file(rank))

    module = assembly.build_module(config, checked.losses, checked.metrics, checked.stepping)
    start = assembly.find_start(run.checkpoints, config.run.init_from, module)
    data = assembly.build_data(config, resources.batch_size)
    data.setup("fit")
    assembly.check_intervals(config, data, resources.batch_size * resources.world_size)
    _log.info("%s", banner(describe_run(checked, data, sum(p.numel() for p in module.parameters()))))
    for note in (*checked.notes, *start.notes):
        _log.info("note: %s", note)
    if config.trainer.trainer.log_model_structure:
        _log.info("%s", module.autoencoder)

    loggers = assembly.build_run_loggers(config, checked.losses, run.path, start.step)
    trainer = assembly.build_trainer(
        config, resources.world_size, resources.use_gpu, run.path, run.checkpoints, run.profiler, loggers
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
        assembly.validate_end(trainer, module, data)
    except torch.OutOfMemoryError as error:
        raise TrainingError(out_of_memory_advice(config, resources, str(error))) from None
    finally:
        assembly.draw_run_curves(trainer, run.path)
    _log.info("%s", results(module.untrained_metrics, module.validation_metrics, assembly.best(trainer)))
    _log.info("weights sha256: %s", weights_digest(module.autoencoder))
    if sync := wandb_sync_command(run.path):
        _log.info("logged offline; to upload: %s", sync)
    _log.info("run directory: %s", run.path)

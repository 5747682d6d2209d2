"""The table of contents of a run."""

import logging
import os

from pipeline.errors import TrainingError
from pipeline.launch.directory import RunDirectory
from pipeline.launch.logs import configure_logging
from pipeline.launch.preflight import Preflight
from pipeline.launch.report import banner, describe_run, out_of_memory_advice, results, resume_command

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
    from pipeline.training.start import find_start, saved_step

    config, run, resources = checked.config, RunDirectory.of(checked.config), checked.resources
    rank = int(os.environ.get("RANK", "0"))
    configure_logging(rank, run.log_file(rank))

    module = assembly.build_module(config, checked.losses, checked.metrics, checked.stepping)
    start = find_start(run.checkpoints, config.run.init_from, module)
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
    if start.checkpoint is not None:
        trainer.num_sanity_val_steps = 0  # there is no untrained model to measure
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
        assembly.validate_end(trainer, module, data)
    except torch.OutOfMemoryError as error:
        raise TrainingError(out_of_memory_advice(config, resources, str(error))) from None
    except RuntimeError as error:  # what trainer.trainer.detect_anomaly raises
        if "returned nan values" not in str(error):
            raise
        raise TrainingError(f"the gradient is not finite at step {trainer.global_step}: {error}") from error
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        saved = saved_step(run.checkpoints)
        _log.warning("interrupted at step %d, saved up to step %d", trainer.global_step, saved)
        _log.warning("to go on from there: %s", resume_command(run.path))
        raise
    finally:
        assembly.draw_run_curves(trainer, run.path)
    if start.step == trainer.global_step:
        _log.info(
            "nothing left to train: step %d is the end of the horizon; extend max_epochs, max_steps",
            start.step,
        )
    _log.info(
        "%s", results(module.initial_metrics, module.validation_metrics, assembly.best(trainer), start.name)
    )
    _log.info("weights sha256: %s", weights_digest(module.autoencoder))
    if sync := wandb_sync_command(run.path):
        _log.info("logged offline; to upload: %s", sync)
    _log.info("run directory: %s", run.path)
    _log.info("to listen: python -m pipeline.inference %s IN.wav OUT.wav", run.path)

"""The table of contents of a run."""

import logging
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from pipeline.launch import replay
from pipeline.launch.attempt import record_attempt
from pipeline.launch.command import module_command
from pipeline.launch.directory import RunDirectory
from pipeline.launch.explanation import explain
from pipeline.launch.logs import configure_logging
from pipeline.launch.preemption import RESUME_EXIT_CODE, STALLED_EXIT_CODE, stop_signals
from pipeline.launch.preflight import Preflight
from pipeline.launch.report import (
    banner,
    describe_run,
    results,
    resume_command,
)
from pipeline.launch.roll_call import RollCall, hold_roll_call

if TYPE_CHECKING:
    from pipeline.launch.data_reading import DataReading
    from pipeline.training.callbacks.checkpointing import RunCheckpoints
    from pipeline.training.callbacks.loss_record import LossRecord
    from pipeline.training.module import AutoencoderModule
    from pipeline.training.start import Start
    from pipeline.training.watch.watchdog import Watchdog

_log = logging.getLogger(__name__)


def train(checked: Preflight, called: RollCall | None = None) -> None:
    """Train one rank of a run, from its checked configuration to its end.

    A run directory that holds a checkpoint is continued; what is on disk decides, nothing else.

    Args:
        checked: the configuration.
        called: the roll call, if the ranks have held it already.

    Raises:
        PipelineError: anything that the user can mend.
        SystemExit: with RESUME_EXIT_CODE, after a signal or at the end of `max_time`.
    """
    import pytorch_lightning  # noqa: F401  # sets its own loggers up, which are then set as the program has them

    run, rank = RunDirectory.of(checked.config), int(os.environ.get("RANK", "0"))
    configure_logging(rank, run.log_file(rank))
    called = called or hold_roll_call(checked)
    with _build_watchdog(checked, run, rank) as watchdog:
        if called is not None:
            called.say()
            watchdog.start()
        _train(checked, run, rank, called, watchdog)


def _train(
    checked: Preflight, run: RunDirectory, rank: int, called: RollCall | None, watchdog: "Watchdog"
) -> None:
    # The one place above which nothing imports torch: refusals and submission stay fast.
    from pipeline.training import assembly, module_build
    from pipeline.training.callbacks.build import build_record
    from pipeline.training.checkpoints.store import CheckpointStore
    from pipeline.training.loggers import close_loggers
    from pipeline.training.ranks.agreement import StopRequested
    from pipeline.training.start import find_start
    from pipeline.training.stopping import StopConditions
    from pipeline.training.strategy import Devices

    config, resources, settings = checked.config, checked.resources, checked.config.trainer.trainer
    data = assembly.build_data(config, resources.batch_size, resources.accumulate)
    data.setup("fit")
    batches = data.batches_per_epoch(resources.batch_size * resources.world_size)
    assembly.check_intervals(config, batches)
    num_steps = assembly.planned_steps(config, batches, resources.accumulate)
    module = module_build.build_module(
        config, checked.losses, checked.metrics, checked.stepping, num_steps, checked.form
    )
    store = CheckpointStore(run.checkpoints, settings.save_top_k, run.marker)
    optimizer = config.trainer.optimizer.model_dump()
    start = find_start(store, config.run.init_from, module, optimizer, is_first_rank=rank == 0)
    _log.info("%s", banner(describe_run(checked, data, sum(p.numel() for p in module.trained_parameters))))
    attempt_notes, reading = record_attempt(run, checked, data.corpus, start) if rank == 0 else ([], None)
    _say_notes(*checked.notes, *module_build.training_notes(config, module), *start.notes, *attempt_notes)
    if settings.log_model_structure:
        _log.info("%s", module.autoencoder)

    loggers = assembly.build_run_loggers(config, checked.losses, run.path, start)
    stop = StopConditions(lambda: stop_signals.received, settings.max_time_s, stop_signals.began_s)
    checkpoints = assembly.build_checkpoints(config, store, stop, _build_losses(run))
    devices = Devices(resources.use_gpu, resources.world_size, resources.effective_batch)
    record = build_record(config, run.path)
    trainer = assembly.build_trainer(
        config, devices, run.path, run.profiler, loggers, checkpoints, watchdog, record
    )
    if start.checkpoint is not None:
        trainer.num_sanity_val_steps = 0  # there is no untrained model to measure
    stop_signals.begin_training()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
        assembly.validate_end(trainer, module, data)
        checkpoints.finish(trainer, module)
        record.finish(trainer)
    except StopRequested as request:
        _log.info("%s: saved up to step %d", request, trainer.global_step)
        _log.info("to go on from there: %s", resume_command(run.path))
        stop_signals.has_saved = True
    except (RuntimeError, OSError) as error:
        raise explain(error, checked, trainer.global_step) from error
    finally:
        close_loggers(loggers)
        assembly.draw_run_curves(trainer, run.path)
    if stop_signals.has_saved:
        _leave(called)
    _finish_reading(reading, watchdog)
    _conclude(run, trainer.global_step, start, module, checkpoints)


def _say_notes(*notes: str) -> None:
    for note in notes:
        _log.info("note: %s", note)


def _build_losses(run: RunDirectory) -> "LossRecord":
    from pipeline.training.callbacks.loss_record import LossRecord

    return LossRecord(run.path, replay.steps_of(run.path))


def _finish_reading(reading: "DataReading | None", watchdog: "Watchdog") -> None:
    """Wait for what the first rank still reads of the audio; a signal ends that."""
    if reading is not None:
        with watchdog.unbounded("reading the audio for the record"):
            reading.finish(lambda: stop_signals.received is not None)


def _leave(called: RollCall | None) -> NoReturn:
    """End before the end of the horizon, when no rank has anything left to do."""
    if called is not None:
        called.meeting.leave_together()
    sys.exit(RESUME_EXIT_CODE)


def _build_watchdog(checked: Preflight, run: RunDirectory, rank: int) -> "Watchdog":
    """Return what ends this rank if the run hangs."""
    from pipeline.training.watch.records import Ending
    from pipeline.training.watch.watchdog import Watchdog

    timeout_s = checked.config.trainer.watchdog_timeout_s
    code = STALLED_EXIT_CODE if stop_signals.is_supervised else RESUME_EXIT_CODE
    ending = Ending(run.log_file(rank).parent, rank, code, resume_command(run.path), timeout_s)
    return Watchdog(timeout_s, rank, ending)


def _conclude(
    run: RunDirectory,
    step: int,
    start: "Start",
    module: "AutoencoderModule",
    checkpoints: "RunCheckpoints",
) -> None:
    """Say what came of a finished run."""
    from pipeline.training.checkpoint import weights_digest
    from pipeline.training.loggers import wandb_sync_command

    if start.step == step:
        _log.info(
            "nothing left to train: step %d is the end of the horizon; extend max_epochs, max_steps", step
        )
    _log.info("%s", results(module.initial_metrics, module.validation_metrics, checkpoints.best, start.name))
    _log.info("sample sequence: %s", checkpoints.sequence.fingerprint)
    _log.info("weights sha256: %s", weights_digest(module.autoencoder))
    if sync := wandb_sync_command(run.path):
        _log.info("logged offline; to upload: %s", sync)
    _log.info("run directory: %s", run.path)
    _log.info("to listen: %s", module_command("pipeline.inference", str(run.path), "IN.wav", "OUT.wav"))
